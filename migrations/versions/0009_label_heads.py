"""The current label of each target, and the bound text of metrics."""

from flywheel_db.bundle import run_sql_beside

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
