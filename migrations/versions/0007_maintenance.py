"""Maintenance: schedules, which run the database's own chores."""

from flywheel_db.bundle import run_sql_beside

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
