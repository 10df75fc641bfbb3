"""One worker process for `bench.latency`: engine and address on the command line, ends when stdin does."""

import asyncio
import sys
from pathlib import Path

from bench.engines import postgresql, sqlite
from bench.latency import working


async def work(engine: str, address: str) -> None:
    """Work until stdin is closed."""
    opening = sqlite(Path(address)) if engine == "SQLite" else postgresql(address)
    async with opening as opened, working(opened):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    uvloop.run(work(*sys.argv[1:]))
