"""What runs Python validators: inside PostgreSQL, in a worker, or in a test.

Nothing here knows the database. ``flywheel-db migrate`` embeds these sources in a function of the
schema, so a backend needs no file; the standard library is all that is imported at the start.
"""
