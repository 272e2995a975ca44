"""0.1.0: traces, spans, verdicts, validators, jobs."""

from flywheel_db.bundle import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    run_sql_beside(__file__)
