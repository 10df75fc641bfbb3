"""A gateway on Node: Fastify 5 and undici, bench/peers_lane/fastify/gateway.mjs."""

import json
import shutil
from dataclasses import dataclass

from bench.lane.contender import KEY, UPSTREAM_KEY, Ground, Launch
from bench.lane.peers import LOCKS, node_peer


@dataclass(frozen=True, slots=True)
class Fastify:
    """One process."""

    name: str = "fastify"
    processes: int = 1

    def install(self) -> str:
        """By npm, from its lock; the program is put beside its modules, where Node looks for them."""
        folder = node_peer("fastify")
        shutil.copy(LOCKS / "fastify" / "gateway.mjs", folder / "gateway.mjs")
        wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
        return ", ".join(f"{package} {version}" for package, version in wanted.items())

    def launch(self, ground: Ground) -> Launch:
        """Told by its environment."""
        environment = {
            "PORT": str(ground.port),
            "UPSTREAM": f"http://127.0.0.1:{ground.upstream_port}",
            "KEY": KEY,
            "UPSTREAM_KEY": UPSTREAM_KEY,
            "NODE_ENV": "production",
        }
        program = node_peer("fastify") / "gateway.mjs"
        return Launch(command=("node", str(program)), environment=environment, live_path="/health")
