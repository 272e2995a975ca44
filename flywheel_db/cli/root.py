"""The command `flywheel-db` itself, and what is the same for all of its commands."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from flywheel_db.cli.output import print_error
from flywheel_db.errors import FlywheelError

# Modules are imported when their command runs: `--help` and completion stay quick.
_COMMANDS = {
    "demo": ("flywheel_db.cli.demo", "demo"),
    "doctor": ("flywheel_db.cli.doctor", "doctor"),
    "down": ("flywheel_db.cli.server", "down"),
    "export": ("flywheel_db.cli.data", "export_command"),
    "import": ("flywheel_db.cli.data", "import_command"),
    "metrics": ("flywheel_db.cli.metrics", "metrics"),
    "migrate": ("flywheel_db.cli.migrate", "migrate"),
    "psql": ("flywheel_db.cli.server", "psql"),
    "status": ("flywheel_db.cli.server", "status"),
    "up": ("flywheel_db.cli.server", "up"),
    "validators": ("flywheel_db.cli.validators", "validators"),
    "worker": ("flywheel_db.cli.worker", "worker"),
}

_EPILOG = """\
\b
The database is the first of these that is given:
  --dsn, FLYWHEEL_DSN, the PG* variables, the private server (flywheel-db up).

\b
Exit codes:
  0    done
  1    a check found something (migrate --check, doctor)
  2    the command line cannot be read
  3    the operation, or a value given to it, was refused
  4    cannot connect
  130  interrupted
"""


class Root(click.Group):
    """A group that imports its commands late, and tells errors in two lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error becomes a message and an exit code."""
        # Texts of traces are in any language, which not every terminal has letters for.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except FlywheelError as exc:
            error = exc
        except KeyboardInterrupt:
            click.echo("interrupted: what was not committed is not stored", err=True)
            ctx.exit(130)
        except Exception as exc:
            # psycopg is imported only by commands that connect.
            psycopg = sys.modules.get("psycopg")
            if psycopg is None or not isinstance(exc, psycopg.Error):
                raise
            from flywheel_db.errors import from_psycopg

            error = from_psycopg(exc)
        print_error(error)
        ctx.exit(error.exit_code)


@click.group(
    cls=Root,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="flywheel-db", prog_name="flywheel-db")
def main() -> None:
    """A data flywheel for LLM applications inside PostgreSQL.

    Insert a trace, and the database validates it.
    """
