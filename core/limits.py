"""Limits that a worker keeps to and the front process tells of."""

BATCH_ROWS = 128  # rows that one forward pass holds at most
