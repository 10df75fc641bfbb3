"""Sockets that share a port among themselves and with nobody else."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from sluicegate.app.listeners import base_url, listen, one_more, ready_to_listen
from sluicegate.settings import ServerSettings


@contextlib.contextmanager
def listening(count: int, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = list(listen(ServerSettings(host=host, port=port), count))
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def accepted(listener: socket.socket) -> int:
    """How many connections wait in the socket."""
    listener.setblocking(False)
    waiting = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            waiting += 1
    return waiting


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_sockets_have_the_one_address_and_each_gets_connections(host: str) -> None:
    with listening(2, host=host) as sockets, contextlib.ExitStack() as callers:
        ports = {each.getsockname()[1] for each in sockets}
        assert len(ports) == 1
        assert base_url(sockets[1]) == f"http://{f'[{host}]' if ':' in host else host}:{ports.pop()}"
        for _ in range(200):
            callers.enter_context(socket.create_connection(sockets[0].getsockname()[:2]))
        shares = [accepted(each) for each in sockets]
        assert sum(shares) == 200
        assert min(shares) > 50


@pytest.mark.parametrize(("here", "there"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_an_address_that_a_gateway_has_is_refused_to_every_other(here: int, there: int) -> None:
    with listening(here) as sockets:
        port = int(sockets[0].getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            listen(ServerSettings(port=port), there)
    with listening(there, port=port):
        pass


def test_connections_go_to_the_sockets_that_are_left_when_one_is_closed() -> None:
    with listening(2) as (first, second), contextlib.ExitStack() as callers:
        address = second.getsockname()
        first.close()
        for _ in range(20):
            callers.enter_context(socket.create_connection(address))
        assert accepted(second) == 20


def test_a_socket_that_joins_gets_connections_only_once_somebody_listens_on_it() -> None:
    with listening(2) as (first, second), one_more(first) as third, contextlib.ExitStack() as callers:
        address = first.getsockname()
        assert third.getsockname() == address
        first.close()
        for _ in range(20):
            callers.enter_context(socket.create_connection(address))
        assert accepted(second) == 20
        second.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with pytest.raises(OSError, match="in use"):
            listen(ServerSettings(port=int(address[1])))
        ready_to_listen(third).listen()
        callers.enter_context(socket.create_connection(address))
        assert accepted(third) == 1


def test_an_address_for_everybody_is_shown_as_one_that_can_be_called() -> None:
    with listening(1, host="0.0.0.0") as (listener,):
        assert base_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_address_can_be_had_again_while_its_last_connections_still_linger() -> None:
    with listening(2) as (first, second), one_more(first) as third, contextlib.ExitStack() as callers:
        port = int(first.getsockname()[1])
        second.close()
        ready_to_listen(third).listen()
        opened = [callers.enter_context(socket.create_connection(first.getsockname())) for _ in range(20)]
        # Closed on this side first, which leaves them in TIME_WAIT.
        assert accepted(first) + accepted(third) == 20
        assert [caller.recv(1) for caller in opened] == [b""] * 20
    with listening(2, port=port) as sockets:
        assert [each.getsockname()[1] for each in sockets] == [port, port]
