"""Alembic's entry: runs the migrations on the connection that it is given."""

from alembic import context

from operator_api.server.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
