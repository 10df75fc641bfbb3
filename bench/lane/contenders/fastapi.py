"""A gateway on FastAPI, uvicorn and httpx: bench/peers_lane/fastapi/gateway.py."""

from dataclasses import dataclass

from bench.lane.contender import KEY, UPSTREAM_KEY, Ground, Launch
from bench.lane.peers import LOCKS, locked_version, python_peer


@dataclass(frozen=True, slots=True)
class FastApi:
    """One process."""

    name: str = "fastapi"
    processes: int = 1

    def install(self) -> str:
        """By pip, from its lock."""
        python_peer("fastapi")
        return ", ".join(f"{it} {locked_version('fastapi', it)}" for it in ("fastapi", "uvicorn", "httpx"))

    def launch(self, ground: Ground) -> Launch:
        """By uvicorn, with its fast parts."""
        python = python_peer("fastapi") / "bin" / "python"
        command = [str(python), "-m", "uvicorn", "gateway:app", "--app-dir", str(LOCKS / "fastapi")]
        command += ["--host", "127.0.0.1", "--port", str(ground.port), "--loop", "uvloop", "--http", "httptools"]
        environment = {
            "UPSTREAM": f"http://127.0.0.1:{ground.upstream_port}",
            "KEY": KEY,
            "UPSTREAM_KEY": UPSTREAM_KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return Launch(command=(*command, "--no-access-log", "--backlog", "8192"), environment=environment)
