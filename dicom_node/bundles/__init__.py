"""Model bundles of a node: installed ones, which are active, and the history of that."""
