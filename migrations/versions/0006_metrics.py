"""Metrics: their catalog, and the streams of deltas that keep the incremental ones."""

from flywheel_db.bundle import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
