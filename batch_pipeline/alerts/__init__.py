"""Alerts: what is wrong now, what of it is new or over, and telling people. Without Dagster."""
