"""Calls of an `UpstreamClient` to the scripted server of tests/upstream.py."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.sinks import Recorder

from sluicegate.backends.backend import UpstreamCall
from sluicegate.backends.upstream import UpstreamClient
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel

CHAT = "chat/completions"


@asynccontextmanager
async def client_of(url: str, *, most: int = 4, **more: Any) -> AsyncIterator[UpstreamClient]:
    """A client with `most` connections; `limits` are those of the settings, noticed within 10 ms."""
    limits = TimeoutSettings(**more.pop("limits", {}))
    client = UpstreamClient(url, name="up", max_connections=most, timeouts=limits, wheel=Wheel(0.01), **more)
    try:
        yield client
    finally:
        await client.close()


def body(model: str, *, stream: bool = True, **script: Any) -> bytes:
    """A call that is answered as the model's script says, changed by `script`."""
    return json.dumps({"model": model, "messages": [], "stream": stream, "script": script}).encode()


def send(client: UpstreamClient, model: str, sink: Recorder, **more: Any) -> UpstreamCall:
    """Make such a call."""
    return client.send(CHAT, body(model, **more), b"", sink)


async def over(client: UpstreamClient, model: str, **more: Any) -> Recorder:
    """Make such a call and wait for its end."""
    sink = Recorder()
    send(client, model, sink, **more)
    await sink.over.wait()
    return sink
