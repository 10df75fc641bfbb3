"""``sluicegate serve`` and ``sluicegate work``: the commands that run the gateway and one more worker."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sluicegate.cli.address import try_to_listen
from sluicegate.cli.options import read_settings, store_options
from sluicegate.cli.terminal import INTERRUPTED, Failure, Misuse, say

if TYPE_CHECKING:
    from sluicegate.settings import Settings

_SAMPLE_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAgMAAAAOFJJnAAAADFBMVEUUPHj6yDzcPDIAAABjTp77AAAAZklEQVR42pWNsQ2AMBADLyZFSkZI"
    "xUbswzxhIcZggEihwC+QqHB1+j/Z8CMTaV0OQGQygJhJNzgfUEAJqAGbOBkgRKdDITN2oN6t0NyjKCwBFTvNF8VoCajYae+3rCArJCvPiqxw"
    "ASZCCzhDIOiKAAAAAElFTkSuQmCC"
)
"""A PNG of 32x32 pixels, so that the example for pictures works as it stands."""


@click.command(
    short_help="Run the gateway.",
    epilog="""\b
Examples:
  sluicegate serve
  sluicegate serve --config gateway.toml --port 9000 --data-dir /var/lib/sluicegate
  sluicegate serve --processes 0""",
)
@store_options
@click.option("--host", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one. Default: 8000.")
@click.option("--processes", type=int, help="Processes that serve the port; 0: one for each core. Default: 1.")
@click.option(
    "--insecure", is_flag=True, help="Listen on an address that others can reach, although nobody is asked for a key."
)
@click.option("--ready-json", is_flag=True, hidden=True, help="Tell a parent process by a JSON line that we are ready.")
def serve(
    *,
    config: Path | None,
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    processes: int | None,
    insecure: bool,
    ready_json: bool,
) -> None:
    """Run the gateway: its HTTP interface, the built-in models and the workers for pictures.

    When it is ready it prints its address and one curl line each for chat and for a picture. Ctrl-C or SIGTERM lets
    running work end (at most server.drain_seconds, default 30 s), then stops.
    """
    overrides = {
        "server.host": host,
        "server.port": port,
        "server.processes": processes,
        "data_dir": str(data_dir) if data_dir else None,
    }
    settings = read_settings(config, overrides)
    _refuse_open_door(settings.server.host, insecure=insecure)
    _check_address(settings.server.host, settings.server.port)
    from sluicegate.app import run_gateway
    from sluicegate.observability.logs import configure_logs

    configure_logs(settings.observability)
    on_ready = _tell_parent if ready_json else _welcome(settings)
    if ready_json:
        _end_with_parent()
    _run(run_gateway(settings, on_ready=on_ready), settings)


@click.command(
    short_help="Run one more worker on the same store.",
    epilog="""\b
Examples:
  sluicegate work --config gateway.toml
  sluicegate work --config gateway.toml --pool big --pool default""",
)
@store_options
@click.option(
    "--pool",
    "pools",
    multiple=True,
    help="Serve this pool; give it again for more, the first before the others. Default: worker.pools, else all.",
)
def work(config: Path | None, data_dir: Path | None, pools: tuple[str, ...]) -> None:
    """Run one more worker for picture jobs, on the store that the settings name.

    `serve` starts worker.processes of them by itself (default 1). Ctrl-C or SIGTERM lets the running job end,
    at most server.drain_seconds (default 30 s), or hands it back to the queue.
    """
    overrides = {"data_dir": str(data_dir) if data_dir else None, "worker.pools": list(pools) or None}
    settings = read_settings(config, overrides)
    from sluicegate.app import run_worker
    from sluicegate.observability.logs import configure_logs

    configure_logs(settings.observability)
    _run(run_worker(settings), settings)


def _run(service: Coroutine[Any, Any, None], settings: "Settings") -> None:
    """Run a service to its end, on uvloop where it is installed; what can go wrong at the start is said in words."""
    from sluicegate.errors import InvalidSettings, SluicegateError

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(service)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except SluicegateError as error:
        raise (Misuse if isinstance(error, InvalidSettings) else Failure)(error.message) from error
    except OSError as error:
        failure = _file_failure(error) or _address_failure(error, settings.server.host, settings.server.port)
        if failure is None:
            raise
        raise failure from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _refuse_open_door(host: str, *, insecure: bool) -> None:
    from sluicegate.admission.gate import is_loopback

    if is_loopback(host):
        return
    if not insecure:
        raise Misuse(
            f"not listening on {host}: this version has no keys yet, so everyone who reaches that address could use "
            "the models and read every picture. Listen on 127.0.0.1, or, where a firewall or a proxy that asks for a "
            "password guards the address, add --insecure."
        )
    say(f"WARNING: listening on {host} without keys: everyone who reaches this address can use the gateway.")


def _check_address(host: str, port: int) -> None:
    """Find out before any model is loaded that the address cannot be had."""
    try:
        try_to_listen(host, port)
    except OSError as error:
        failure = _address_failure(error, host, port)
        if failure is not None:
            raise failure from None


def _file_failure(error: OSError) -> Failure | None:
    """The failure to make or open a file in words, or None when the error is about something else."""
    if error.filename is None:
        return None
    mend = "check --data-dir and [storage] of the settings (sluicegate doctor tells more)"
    return Failure(f"{error.filename}: {error.strerror}; {mend}")


def _address_failure(error: OSError, host: str, port: int) -> Failure | None:
    """The failure to listen in words, or None when the error is about something else."""
    if isinstance(error, socket.gaierror):
        return Failure(f'"{host}" is no address of this machine ({error.strerror}); check --host')
    match error.errno:
        case errno.EADDRINUSE:
            return Failure(
                f"port {port} of {host} is in use, perhaps by another gateway; "
                "stop that program or take another port with --port (sluicegate doctor tells more)"
            )
        case errno.EACCES:
            return Failure(f"port {port} may not be opened by this user; take one above 1023 with --port")
        case errno.EADDRNOTAVAIL:
            return Failure(f'"{host}" is no address of this machine; check --host')
        case _:
            return None


def _tell_parent(url: str) -> None:
    from sluicegate.supervision import tell_ready

    tell_ready(url=url)


def _end_with_parent() -> None:
    from sluicegate.supervision import exit_with_parent

    exit_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))


def _welcome(settings: "Settings") -> Callable[[str], None]:
    def show(url: str) -> None:
        head = (
            f"Sluicegate is ready at {url} (Ctrl-C stops it)",
            f"data       {Path(settings.data_dir).absolute()}",
            f"interface  {url}/docs",
        )
        click.echo("\n".join((*head, *examples(settings, url))))

    return show


def examples(settings: "Settings", url: str) -> list[str]:
    """Lines to try, each with its heading: a chat answer and a picture, as far as there are backends for them."""
    chat = next((backend for backend in settings.backends if backend.kind != "local-image"), None)
    lines: list[str] = []
    if chat is not None:
        builtin = "smollm2-135m" if chat.kind == "local-llm" else "MODEL"
        body = (
            f'{{"model":"{chat.models[0] if chat.models else builtin}","stream":true,"max_tokens":64,'
            '"messages":[{"role":"user","content":"Say hello"}]}'
        )
        lines += ["\n# chat", f"curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"]
    if any(backend.kind == "local-image" for backend in settings.backends):
        body = f'{{"task":"stylize","input":{{"style":7,"image":"data:image/png;base64,{_SAMPLE_PICTURE}"}}}}'
        wait = "-H 'Content-Type: application/json' -H 'Prefer: wait=60'"
        lines += ["\n# a picture in a style, and where to fetch it", f"curl {url}/v1/jobs {wait} -d '{body}'"]
    return lines
