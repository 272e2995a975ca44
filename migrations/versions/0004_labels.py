"""Labels: what people say of traces and spans, which split each trace is in, what was withdrawn."""

from flywheel_db.bundle import run_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
