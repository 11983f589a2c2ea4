"""The review queue: rows that no model could answer go out to people as one flat file, and come back decided."""
