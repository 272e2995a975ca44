"""Which streams count more than there is."""

from flywheel_db.bundle import run_sql_beside

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
