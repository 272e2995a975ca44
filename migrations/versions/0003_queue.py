"""The queue: leases and fencing tokens, the models that judge, the run log, workers."""

from flywheel_db.bundle import run_sql_beside
from flywheel_db.install import OnlineStep

revision = "0003"
down_revision = "0002"

# What a claim reads, in its order; and the dead, who are few.
online = (
    OnlineStep(
        name="0003 _jobs_claim_idx",
        statement="create index concurrently _jobs_claim_idx"
        " on flywheel._jobs (version_id, priority, run_at) where state = 'pending'",
        index="flywheel._jobs_claim_idx",
    ),
    OnlineStep(
        name="0003 _jobs_dead_idx",
        statement="create index concurrently _jobs_dead_idx"
        " on flywheel._jobs (version_id) where state = 'dead'",
        index="flywheel._jobs_dead_idx",
    ),
)


def upgrade() -> None:
    """Run the SQL."""
    run_sql_beside(__file__)
