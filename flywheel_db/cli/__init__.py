"""The command line: `flywheel-db`. Each command parses, calls and prints, nothing else."""

from flywheel_db.cli.root import main

__all__ = ["main"]
