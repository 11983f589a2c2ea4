"""What Alembic runs: the steps, in the transaction that `ledger.schema` opened."""

from alembic import context

from batch_pipeline.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
context.run_migrations()
