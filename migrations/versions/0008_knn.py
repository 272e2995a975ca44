"""Reference texts of nearest-neighbour validators."""

from flywheel_db.bundle import run_sql_beside

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
