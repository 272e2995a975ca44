"""The worker: decides the jobs that validators have queued."""
