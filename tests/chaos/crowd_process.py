"""Callers that gateways fear, in a process of their own: ``python crowd_process.py PORT SEED TAG KIND=COUNT…``.

    vanish  leave at a random point of a call, by FIN or by RST, and come again
    stall   ask for a flood and never read
    drip    read one byte a second of a slow stream
    sip     read 8 KB a second of a flood

It prints "here" once every caller has asked, and leaves when its standard input ends. Then it prints, as JSON, when it
left which call, in seconds of the monotonic clock, and the errors that it met. Calls are named by their caller's kind,
the tag, and a number.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_FLOOD = {"gap": 0.0, "size": 2_000}
_SLOW = {"gap": 2.0}
_SMALL_BUFFER = 4_096
"""What the system keeps for a caller that does not read; more would be taken out of the gateway's sight."""
_SIP_BYTES = 2_048
_RESET = struct.pack("ii", 1, 0)
_ARRIVALS = 64
"""Connections that are made at once."""
_POINTS: dict[str, dict[str, Any]] = {
    "in the request": {},
    "before the head": {"head": 30.0},
    "before the first token": {"first": 30.0},
    "between tokens": {"gap": 0.02},
    "in a flood": _FLOOD,
}


@dataclass
class Told:
    """What is told at the end."""

    left: dict[str, float] = field(default_factory=dict)
    points: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class Crowd:
    """All of them."""

    def __init__(self, port: int, seed: str) -> None:
        self._port = port
        self._seed = seed
        self._told = Told()
        self._arrivals = asyncio.Semaphore(_ARRIVALS)
        self._open: dict[str, socket.socket] = {}
        self._leaving = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def run(self, tag: str, counts: dict[str, int]) -> Told:
        """Until standard input ends."""
        makers = {"vanish": self._vanish, "stall": self._stall, "drip": self._drip, "sip": self._sip}
        arrived = asyncio.Semaphore(0)
        tasks = [
            asyncio.create_task(makers[kind](f"{kind}-{tag}-{number}", arrived))
            for kind, count in counts.items()
            for number in range(count)
        ]
        for _ in tasks:
            await arrived.acquire()
        print("here", flush=True)  # noqa: T201 - heard by who started this process
        await self._loop.run_in_executor(None, sys.stdin.read)
        self._leaving.set()
        await asyncio.gather(*tasks)
        return self._told

    # --- the kinds ---

    async def _vanish(self, name: str, arrived: asyncio.Semaphore) -> None:
        rng = random.Random(f"{self._seed} {name}")
        life = 0
        while not self._leaving.is_set():
            point = rng.choice(list(_POINTS))
            is_part = point == "in the request"
            call = f"{name}-{life}"
            if await self._ask(call, _POINTS[point], is_part=is_part, arrived=arrived if life == 0 else None):
                await self._pause(rng.uniform(0.0, 1.5))
                self._told.points[point] += 1
                self._leave(call, is_reset=rng.random() < 0.5)
            await self._pause(rng.uniform(0.2, 1.0))
            life += 1

    async def _stall(self, name: str, arrived: asyncio.Semaphore) -> None:
        if await self._ask(name, _FLOOD, arrived=arrived):
            await self._leaving.wait()
            self._leave(name)

    async def _drip(self, name: str, arrived: asyncio.Semaphore) -> None:
        await self._read_slowly(name, _SLOW, 1, 1.0, arrived)

    async def _sip(self, name: str, arrived: asyncio.Semaphore) -> None:
        await self._read_slowly(name, _FLOOD, _SIP_BYTES, 0.25, arrived)

    async def _read_slowly(
        self, name: str, script: dict[str, Any], size: int, pause: float, arrived: asyncio.Semaphore
    ) -> None:
        if not await self._ask(name, script, arrived=arrived):
            return
        while not self._leaving.is_set():
            await self._pause(pause)
            try:
                if not self._open[name].recv(size):
                    raise ConnectionError("the gateway closed the connection")
            except BlockingIOError:
                pass
            except ConnectionError as error:
                self._fault(name, error)
                break
        self._leave(name)

    # --- the sockets ---

    async def _ask(
        self, call: str, script: dict[str, Any], *, arrived: asyncio.Semaphore | None, is_part: bool = False
    ) -> bool:
        """Connect and send the request, or half of it; whether that went well."""
        body = {"model": "talks", "stream": True, "user": call, "script": script}
        text = json.dumps({**body, "messages": [{"role": "user", "content": "Talk to me. " * 20}]}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        request = head + b"content-length: %d\r\n\r\n%b" % (len(text), text)
        end = socket.socket()
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        self._open[call] = end
        try:
            async with self._arrivals:
                await self._loop.sock_connect(end, ("127.0.0.1", self._port))
                await self._loop.sock_sendall(end, request[: len(request) // 2] if is_part else request)
        except OSError as error:
            self._fault(call, error)
            self._open.pop(call).close()
            return False
        finally:
            if arrived is not None:
                arrived.release()
        return True

    def _leave(self, call: str, *, is_reset: bool = False) -> None:
        end = self._open.pop(call)
        if is_reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._told.left[call] = time.monotonic()
        end.close()

    def _fault(self, call: str, error: OSError) -> None:
        self._told.errors[f"{call.partition('-')[0]}: {error}"] += 1

    async def _pause(self, seconds: float) -> None:
        """So long, or until all leave."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), seconds)


async def main() -> None:
    """Be the crowd of the arguments."""
    counts = {kind: int(count) for kind, _, count in (word.partition("=") for word in sys.argv[4:])}
    told = await Crowd(int(sys.argv[1]), sys.argv[2]).run(sys.argv[3], counts)
    print(json.dumps(vars(told)), flush=True)  # noqa: T201 - heard by who started this process


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
