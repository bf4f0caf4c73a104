"""Clinical variables, units, scores and response criteria."""
