"""Two routers in Rust, SMG and vLLM's: they spread calls over workers of one model, and check no callers' keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.lane.contender import Ground, Launch
from bench.lane.peers import locked_version, python_peer
from bench.lane.running import free_port
from bench.lane.scenarios import MODELS


@dataclass(frozen=True, slots=True)
class Smg:
    """SMG, round robin. It takes a worker to have one model, so it gets a worker for each: the upstream's addresses."""

    name: str = "smg"
    processes: int = 1

    def install(self) -> str:
        """By pip, from its lock."""
        python_peer("smg")
        return f"smg {locked_version('smg', 'smg')}"

    def launch(self, ground: Ground) -> Launch:
        """By its command."""
        program = python_peer("smg") / "bin" / "smg"
        workers = [f"http://127.0.0.{host}:{ground.upstream_port}" for host in range(2, len(MODELS) + 2)]
        flags = _flags(ground, workers)
        return Launch(command=(str(program), "launch", *flags), environment={"TOKIO_WORKER_THREADS": "1"})


@dataclass(frozen=True, slots=True)
class VllmRouter:
    """vLLM's router with one worker, round robin."""

    name: str = "vllm-router"
    processes: int = 1

    def install(self) -> str:
        """By pip, from its lock."""
        python_peer("vllm-router")
        return f"vllm-router {locked_version('vllm-router', 'vllm-router')}"

    def launch(self, ground: Ground) -> Launch:
        """By its command."""
        program = python_peer("vllm-router") / "bin" / "vllm-router"
        return Launch(
            command=(str(program), *_flags(ground, [f"http://127.0.0.1:{ground.upstream_port}"])),
            environment={"TOKIO_WORKER_THREADS": "1"},
        )


def _flags(ground: Ground, workers: Sequence[str]) -> tuple[str, ...]:
    flags = ["--host", "127.0.0.1", "--port", str(ground.port), "--policy", "round_robin", "--log-level", "error"]
    flags += ["--worker-urls", *workers, "--prometheus-port", str(free_port())]
    return tuple(flags)
