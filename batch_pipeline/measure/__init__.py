"""The measures: functions of tables, without I/O.

They read two temporary tables of a connection, made by `stages.scorecard`:

- `rows`: row, golden, key, disposition (null while open), reason, tier, top_tier, attempts, chunk_id
- `sendings`: row, golden, tier, attempt, sending, chunk_id, result, stop_reason, outcome, and the usage columns
"""
