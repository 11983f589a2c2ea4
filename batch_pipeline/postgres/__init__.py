"""Postgres as a source of rows and as a place to promote them to."""
