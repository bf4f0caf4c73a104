"""Jobs: states, engine and ledger."""
