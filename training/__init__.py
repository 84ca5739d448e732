"""The graph of a run with its steps."""
