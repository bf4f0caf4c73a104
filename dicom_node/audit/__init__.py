"""The audit trail (PS3.15 A.5): messages, a chained file, syslog, decisions, locked forecasts."""
