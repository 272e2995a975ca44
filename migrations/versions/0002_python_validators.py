"""Python validators and built-in checks: their code, their budgets, and the circuit breaker."""

from flywheel_db.bundle import run_sql_beside
from flywheel_db.install import OnlineStep

revision = "0002"
down_revision = "0001"

# A user's recent attempts: the built-in check no_attack. Rows without a user stay out of it.
online = (
    OnlineStep(
        name="0002 traces_user_id_started_at_idx",
        statement="create index concurrently traces_user_id_started_at_idx"
        " on flywheel.traces (user_id, started_at) where user_id is not null",
        index="flywheel.traces_user_id_started_at_idx",
    ),
)


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
