"""TLS, and addresses of other kinds, against the scripted server."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tests.sinks import Recorder
from tests.upstream import Upstream, scripted_upstream

from sluicegate.backends.upstream import UpstreamClient
from sluicegate.errors import BackendUnavailable
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel

Play = Callable[[Callable[[], Awaitable[None]]], None]


class Secured:
    """A server that speaks TLS under the name localhost, and the authority that vouches for it."""

    def __init__(self, upstream: Upstream, authority: str) -> None:
        self.upstream = upstream
        self.authority = authority
        self.url = upstream.url.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(folder / "cert.pem"), append=True)
    with scripted_upstream(tls=(str(folder / "cert.pem"), str(folder / "key.pem"))) as upstream:
        yield Secured(upstream, str(folder / "ca.pem"))


async def call(url: str, *, cafile: str | None = None, times: int = 1) -> Recorder:
    client = UpstreamClient(
        url, name="up", max_connections=2, timeouts=TimeoutSettings(), wheel=Wheel(), cafile=cafile, key="sk-secret"
    )
    sink = Recorder()
    try:
        for _ in range(times):
            sink = Recorder()
            client.send("chat/completions", b'{"model":"steady","stream":true}', b"", sink)
            await sink.over.wait()
        return sink
    finally:
        await client.close()


def test_a_trusted_server_is_called_over_one_connection(play: Play, secured: Secured) -> None:
    async def scene() -> None:
        secured.upstream.forget()
        sink = await call(secured.url, cafile=secured.authority, times=3)
        assert sink.ended
        assert sink.body.endswith(b"data: [DONE]\n\n")
        seen = secured.upstream.seen()
        assert seen["connections"] == 1
        assert seen["last"]["headers"]["authorization"] == "Bearer sk-secret"

    play(scene)


def test_cancelling_over_tls_is_seen_by_the_server(play: Play, secured: Secured) -> None:
    async def scene() -> None:
        secured.upstream.forget()
        client = UpstreamClient(
            secured.url, name="up", max_connections=2, timeouts=TimeoutSettings(), wheel=Wheel(),
            cafile=secured.authority,
        )  # fmt: skip
        sink = Recorder()
        under_way = client.send("chat/completions", b'{"model":"endless","stream":true}', b"", sink)
        await sink.begun.wait()
        under_way.pause()
        under_way.resume()
        under_way.cancel()
        await secured.upstream.wait_until("cancelled", 1)
        await client.close()

    play(scene)


def test_a_server_that_nobody_vouches_for_is_not_called(play: Play, secured: Secured) -> None:
    async def scene() -> None:
        sink = await call(secured.url)
        assert isinstance(sink.error, BackendUnavailable)
        assert "its certificate is not trusted" in sink.error.message

    play(scene)


def test_a_certificate_for_another_name_is_not_believed(play: Play, secured: Secured) -> None:
    async def scene() -> None:
        sink = await call(secured.upstream.url, cafile=secured.authority)
        assert isinstance(sink.error, BackendUnavailable)
        assert "127.0.0.1" in sink.error.message

    play(scene)


def test_a_password_in_the_address_reaches_the_server_and_no_message(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        address = upstream.url.replace("http://", "http://me:pass%20word@")
        client = UpstreamClient(address, name="up", max_connections=1, timeouts=TimeoutSettings(), wheel=Wheel())
        sink = Recorder()
        client.send("chat/completions", b'{"model":"drops"}', b"", sink)
        await sink.over.wait()
        await client.close()
        assert upstream.seen()["last"]["headers"]["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
        assert "pass" not in sink.failure.message

    play(scene)


def test_a_server_with_an_ipv6_number_is_reached(play: Play) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")

    async def scene() -> None:
        with scripted_upstream(host="::1") as upstream:
            assert (await call(upstream.url)).ended
            assert upstream.seen()["last"]["headers"]["host"] == f"[::1]:{upstream.port}"

    play(scene)


def test_where_nothing_listens_there_is_nothing_to_connect_to(play: Play) -> None:
    async def scene() -> None:
        sink = await call("http://127.0.0.1:1/v1")
        assert isinstance(sink.error, BackendUnavailable)
        assert "cannot connect to 127.0.0.1:1" in sink.error.message

    play(scene)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return Path("/proc/net/if_inet6").exists()
