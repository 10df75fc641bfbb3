"""The command line: thin clients of the HTTP interface (chat, generate, jobs) and the commands that run a gateway.

Every module imports click at most; httpx, rich, Pillow and `sluicegate.app` come in with the command that needs them.
"""

import io
import os
import sys
from pathlib import Path

import click

from sluicegate.cli.chat import chat
from sluicegate.cli.doctor import doctor
from sluicegate.cli.generate import generate
from sluicegate.cli.jobs import jobs
from sluicegate.cli.serve import serve, work
from sluicegate.cli.simulate import simulate

_EPILOG = """\b
A first try, with nothing running yet:
  sluicegate chat "Write a haiku about rain"
  sluicegate generate --image photo.jpg --style 7 -o painted.png
\b
Client commands call SLUICEGATE_URL (default http://127.0.0.1:8000), with SLUICEGATE_API_KEY when it is set.
A file .env in the working directory is read; real environment variables win."""


@click.group(
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


for _command in (serve, work, chat, generate, jobs, simulate, doctor):
    main.add_command(_command)
