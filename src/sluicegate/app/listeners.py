"""The sockets that are listened on.

Several processes on one port have a socket each (SO_REUSEPORT): the kernel spreads new connections over them by a hash
of the two addresses. What waits in a socket's queue belongs to the socket, not to the process that reads from it.
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sluicegate.errors import Fault, InvalidSettings
from sluicegate.settings import ServerSettings, TlsSettings

if TYPE_CHECKING:
    import ssl

BACKLOG = 2_048


def listen(server: ServerSettings, count: int = 1) -> Sequence[socket.socket]:
    """So many sockets on the one address that the settings name; port 0 takes a free one for all of them.

    Raises `OSError` when the address cannot be had, also when it is shared by another gateway.
    """
    first = _bound(server.host, server.port, socket.SO_REUSEADDR)
    sockets = [first]
    try:
        if count > 1:
            # Only now: bound together with the option, another gateway of the same user could join in unnoticed.
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = first.getsockname()[1]
        both = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        sockets += [_bound(server.host, port, *both) for _ in range(count - 1)]
        for each in sockets:
            each.listen(BACKLOG)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def tls_context(tls: TlsSettings) -> "ssl.SSLContext | None":
    """What encrypts the connections; None without a certificate.

    Raises `InvalidSettings` when the files are not what they should be, or do not belong together.
    """
    if not tls.certificate:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        mend = "the certificate and its key must belong together, in PEM form and without a password"
        message = f'"{tls.certificate}" and "{tls.key}" cannot be used: {error}'
        raise InvalidSettings([Fault("server.tls", message, mend)], source="settings") from None
    return context


def _no_password() -> str:
    """Instead of asking on the terminal."""
    raise ValueError("the key has a password")


def one_more(listener: socket.socket) -> socket.socket:
    """Another socket on the address of one that is shared; for `ready_to_listen`. Until somebody listens on it, it gets
    no connections, but it keeps the port: with SO_REUSEADDR a port that nobody listens on would be anybody's."""
    host, port = listener.getsockname()[:2]
    return _bound(host, port, socket.SO_REUSEPORT)


def ready_to_listen(listener: socket.socket) -> socket.socket:
    """The socket; its connections, once they are closed and linger, will not keep the port from the next gateway."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener


def base_url(listener: socket.socket, *, is_secure: bool = False) -> str:
    """The address under which callers on this machine reach the socket."""
    scheme = "https" if is_secure else "http"
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - shown, not bound
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bound(host: str, port: int, *options: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    each = socket.socket(family)
    try:
        for option in options:
            each.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        each.bind((host, port))
    except OSError:
        each.close()
        raise
    return each
