"""Portkey's gateway on Node. It checks no keys of its own: the caller's is passed on to the upstream."""

import json
from dataclasses import dataclass

from bench.lane.contender import UPSTREAM_KEY, Ground, Launch
from bench.lane.peers import node_peer


@dataclass(frozen=True, slots=True)
class Portkey:
    """One process."""

    name: str = "portkey"
    processes: int = 1

    def install(self) -> str:
        """By npm, from its lock."""
        wanted = json.loads((node_peer("portkey") / "package.json").read_text("utf-8"))["dependencies"]
        return f"@portkey-ai/gateway {wanted['@portkey-ai/gateway']}"

    def launch(self, ground: Ground) -> Launch:
        """Callers name provider and address in headers."""
        package = node_peer("portkey") / "node_modules" / "@portkey-ai" / "gateway"
        command = ("node", str(package / "build" / "start-server.js"), f"--port={ground.port}", "--headless")
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{ground.upstream_port}/v1",
        }
        environment = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
        return Launch(command=command, environment=environment, key=UPSTREAM_KEY, headers=headers)
