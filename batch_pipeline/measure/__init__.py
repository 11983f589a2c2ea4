"""The measures: functions of tables, without I/O.

They read two temporary tables of a connection, made by `stages.scorecard`:

- `rows`: row, golden, key, disposition (null while open), reason, tier, top_tier, attempts, chunk_id,
  reused (answered by an earlier load)
- `sendings`: row, golden, tier, attempt, sending, chunk_id, result, stop_reason, outcome, shared (the
  answer to another row's request, or of an earlier load: no request of its own), and the usage columns
"""
