"""Embeddings: embedders, the segments of their stores, what has arrived, and the examples."""

from flywheel_db.bundle import run_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
