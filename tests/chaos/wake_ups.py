"""Blows at a PostgreSQL server: it is restarted, or the connections that carry hints are cut."""

import asyncio
import random
import time

from tests.chaos.databases import Away, PostgresDatabase
from tests.chaos.patience import PATIENCE, until
from tests.chaos.plant import Plant
from tests.postgres import StopMode

from sluicegate.app.parts import build_signals

_HINT_SECONDS = 0.02
_SURELY_NEW = 5
_MODES: tuple[StopMode, ...] = ("immediate", "kill", "fast")


class ServerBlows:
    """Deals them, one at a time, and measures how soon hints come again: a listener counts those that
    `Plant.signals` sends all the time."""

    def __init__(self, plant: Plant, database: PostgresDatabase, rng: random.Random) -> None:
        self.after_cuts: list[float] = []
        """Seconds from each cut until hints came again."""
        self.after_restarts: list[float] = []
        """Seconds from each restart's end until hints came again."""
        self.outages: list[float] = []
        """Seconds for which the server was away."""
        self.cut = 0
        """How many connections were cut."""
        self._rng = rng
        self._turn = asyncio.Lock()
        self._plant = plant
        self._database = database
        self._listener = build_signals(plant.settings)

    async def run(self) -> None:
        """Send hints until cancelled."""
        await self._listener.open()
        try:
            while True:
                self._plant.signals.notify("events")
                await asyncio.sleep(_HINT_SECONDS)
        finally:
            await self._listener.close()

    async def restart(self) -> bool:
        """Crash the server, kill its head, or stop it in order; start it; wait for hints."""
        async with self._turn:
            began_at = time.monotonic()
            await self._database.restart(self._rng.choice(_MODES))
            up_at = time.monotonic()
            self.outages.append(up_at - began_at)
            self.after_restarts.append(await self._hints_again() - up_at)
        return True

    async def cut_listeners(self) -> bool:
        """Cut every listening connection, ours, the gateways' and the workers', and wait for hints."""
        async with self._turn:
            cut_at = time.monotonic()
            try:
                cut = await self._database.cut_listeners()
            except Away:
                return False
            if cut > 0:
                self.after_cuts.append(await self._hints_again() - cut_at)
            self.cut += cut
        return cut > 0

    async def _hints_again(self) -> float:
        """When so many hints have come that some were sent since: one comes by itself with the connection."""
        seen = self._listener.version("events")
        await until(lambda: self._listener.version("events") >= seen + _SURELY_NEW, PATIENCE)
        return time.monotonic()
