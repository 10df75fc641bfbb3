"""What a command shows and how it ends: results on stdout, chatter on stderr, one clear line for each failure."""

import asyncio
import json
import signal
import sys
import unicodedata
from collections.abc import Coroutine
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
WIDE = 400
"""Columns assumed where there is no terminal."""
TERMINATED = 143
"""Exit code after SIGTERM: 128 + SIGTERM."""


class Failure(click.ClickException):
    """The command cannot do what was asked. `message` says what, the value and the mend; there is no traceback."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on stderr."""
        click.echo(f"Error: {printable(self.message)}", file=file, err=file is None)


class Misuse(Failure):
    """The options or the settings cannot work; exit code 2, as for click's own usage errors."""

    exit_code = 2


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end. Ctrl-C and SIGTERM cancel it, wait for its clean-up and end the command."""
    with asyncio.Runner() as runner:
        return run_in(runner, work)


def run_in(runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
    """As `run`, inside a runner that lives on."""
    try:
        return runner.run(_terminable(work))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise click.exceptions.Exit(TERMINATED) from None


async def _terminable(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def console(*, stderr: bool = False) -> "Console":
    """A rich console: no colours without a terminal or with NO_COLOR, and nothing shortened without a terminal."""
    from rich.console import Console

    width = None if is_terminal(sys.stderr if stderr else sys.stdout) else WIDE
    return Console(stderr=stderr, highlight=False, width=width)


def say(text: str) -> None:
    """A line of chatter, on stderr."""
    click.echo(printable(text), err=True)


def print_json(value: Any, *, lines: bool = False) -> None:
    """A value as JSON on stdout; with `lines`, on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=None if lines else 2))


def printable(text: str) -> str:
    """The text without control characters: what a server or a model says must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs"))


def argument_text(text: str) -> str:
    """An argument of the command line as proper Unicode: bytes that are no UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a stream of this process is a terminal; one that is closed is none."""
    return stream is not None and stream.isatty()


def size_text(size_bytes: int) -> str:
    """Bytes for people: 812 B, 34.5 kB, 2.1 MB."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB"):
        size /= 1_000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1_000:.1f} GB"


def seconds_text(seconds: float) -> str:
    """A duration for people: 0.8 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60:02} min"
