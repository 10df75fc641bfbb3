"""The command line: thin clients of the HTTP interface (chat, generate, jobs) and the commands that run a gateway.

Every module imports click at most; httpx, rich, Pillow and `sluicegate.app` come in with the command that needs them.
"""

import importlib
import io
import os
import sys
from pathlib import Path

import click

_MODULES = {
    "serve": "serve",
    "work": "serve",
    "chat": "chat",
    "generate": "generate",
    "jobs": "jobs",
    "simulate": "simulate",
    "doctor": "doctor",
}
"""Where each command stands, in the order of the help."""
_EPILOG = """\b
A first try, with nothing running yet:
  sluicegate chat "Write a haiku about rain"
  sluicegate generate --image photo.jpg --style 7 -o painted.png
\b
Client commands call SLUICEGATE_URL (default http://127.0.0.1:8000), with SLUICEGATE_API_KEY when it is set.
A file .env in the working directory is read; real environment variables win."""


class _Commands(click.Group):
    """Imports a command when it is asked for: a gateway is up sooner without the clients' modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(f"sluicegate.cli.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="sluicegate", prog_name="sluicegate", message="%(prog)s %(version)s")
def main() -> None:
    """One front door for generative models: chat and pictures behind one address and one durable queue."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a model says may hold characters that the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
    _read_dotenv(Path(".env"))


def _read_dotenv(file: Path) -> None:
    """Add the file's variables to this process's environment, so that children and backends see them too."""
    if not file.is_file():
        return
    from dotenv import dotenv_values

    try:
        values = dotenv_values(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} cannot be read: {error}; mend or remove it") from None
    for name, value in values.items():
        if value is not None:
            os.environ.setdefault(name, value)
