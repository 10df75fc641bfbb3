"""Who takes part."""

from typing import Final

from bench.lane.contender import Contender
from bench.lane.contenders.direct import Direct
from bench.lane.contenders.fastapi import FastApi
from bench.lane.contenders.fastify import Fastify
from bench.lane.contenders.litellm import LiteLlm
from bench.lane.contenders.nginx import Nginx
from bench.lane.contenders.ours import Sluicegate
from bench.lane.contenders.portkey import Portkey
from bench.lane.contenders.routers import Smg, VllmRouter

OURS: Final = Sluicegate()
LIMIT: Final = Nginx()
"""What everything is held against."""
DIRECT: Final = Direct()
PEERS: Final[tuple[Contender, ...]] = (
    Sluicegate(name="source", is_compiled=False),
    LIMIT,
    Nginx(name="nginx+log", logs=True),
    Fastify(),
    FastApi(),
    LiteLlm(),
    Portkey(),
    Smg(),
    VllmRouter(),
)
