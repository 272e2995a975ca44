"""Alembic's entry point: flywheel_db.install hands it a connection in a transaction."""

from alembic import context

options = {"version_table": "_alembic_version", "version_table_schema": "flywheel"}

if context.is_offline_mode():
    # The script around it is one transaction already.
    context.configure(dialect_name="postgresql", transactional_ddl=False, **options)
else:
    context.configure(connection=context.config.attributes["connection"], **options)

with context.begin_transaction():
    context.run_migrations()
