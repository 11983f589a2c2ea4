"""The columns of source.parquet that are ours; the others are the source's own."""

ROW, GOLDEN, KEY = "_row", "_golden", "_key"
OWN_COLUMNS = (ROW, GOLDEN, KEY)

# A golden file's right answer for an output field is in a column of this and the field's name.
EXPECTED = "expected_"
