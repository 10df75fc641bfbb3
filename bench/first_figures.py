"""The first figures of a gateway on this machine: start, chat, pictures, memory, recovery, stop.

    make figures

It starts real gateways with the built-in models on loopback, does little and stops by itself (under two minutes).
It reports; it judges nothing. Run it on an otherwise idle machine.
"""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests.gateway import RunningGateway, eventually, picture, running_gateway

QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def show(name: str, *values: float, unit: str) -> None:
    """One line of the report."""
    print(f"{name:<52} {' '.join(f'{value:.3g}' for value in values)} {unit}", flush=True)  # noqa: T201 - a report


def peak_megabytes(pid: int) -> float:
    """The most resident memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def stream_chat(gateway: RunningGateway) -> tuple[float, float]:
    """Seconds to the first token, and tokens a second after it."""
    body = {"model": "smollm2-135m", "stream": True, "max_tokens": 200, "ignore_eos": True, "messages": QUESTION}
    begin, arrivals = time.monotonic(), list[float]()
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as answer:
        arrivals += [time.monotonic() for line in answer.iter_lines() if '"content":"' in line]
    return arrivals[0] - begin, (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def run_jobs(gateway: RunningGateway) -> None:
    """Milliseconds of execution for each built-in picture model; the first of each loads it."""
    kinds: list[tuple[str, int, dict[str, Any]]] = [
        ("sprout, 128 x 128, 20 steps", 0, {"model": "sprout", "input": {"prompt": "a red apple"}}),
        ("sprout, four in one pass", 0, {"model": "sprout", "input": {"prompt": "a red apple", "n": 4}}),
        ("stylize 512 x 512", 512, {"task": "stylize", "input": {"style": 7}}),
        ("realesrgan-x2, 256 to 512", 256, {"model": "realesrgan-x2", "input": {}}),
        ("realesrgan-x4, 128 to 512", 128, {"model": "realesrgan-x4", "input": {}}),
    ]
    for name, side, body in kinds:
        if side:
            body["input"]["image"] = gateway.upload(picture(side, side, seed=3))
        jobs = [gateway.submit(body, prefer="wait=60")["metrics"] for _ in range(4)]
        show(f"{name}: execution", *(job["execution_ms"] for job in jobs), unit="ms")
        show(f"{name}: submitted to started", *(job["queue_ms"] for job in jobs), unit="ms")


def break_things(gateway: RunningGateway) -> None:
    """Seconds to recover from kills, and to cancel."""
    large = {"model": "realesrgan-x4", "input": {"image": gateway.upload(picture(600, 500))}}
    job = gateway.submit(large)["id"]

    def look() -> dict[str, Any]:
        told: dict[str, Any] = gateway.get(f"/v1/jobs/{job}").json()
        return told

    eventually(lambda: look()["status"], lambda status: status == "running")
    os.kill(gateway.worker_pids()[0], signal.SIGKILL)
    again = timed(lambda: eventually(look, lambda it: it["metrics"]["attempts"] == 2))
    show("worker killed, its job runs again", again, unit="s")
    gateway.post(f"/v1/jobs/{job}/cancel")
    show("running job canceled", timed(lambda: gateway.finished(job)), unit="s")
    os.kill(gateway.llm_pids()[0], signal.SIGKILL)
    body = {"model": "smollm2-135m", "max_tokens": 2, "messages": QUESTION}
    show("language model killed, next answer", timed(lambda: gateway.post("/v1/chat/completions", json=body)), unit="s")
    gateway.kill()
    show("gateway killed, serving again", timed(gateway.start), unit="s")


def stop_while_busy(folder: Path) -> None:
    """Seconds to stop with drain_seconds = 3, a long job running and an upload half sent."""
    with running_gateway(folder, "[server]\ndrain_seconds = 3\n") as gateway:
        gateway.wait_ready()
        job = gateway.submit({"model": "realesrgan-x4", "input": {"image": gateway.upload(picture(1200, 900))}})["id"]
        eventually(lambda: gateway.get(f"/v1/jobs/{job}").json()["progress"], lambda progress: progress is not None)
        with socket.create_connection(("127.0.0.1", gateway.port)) as upload:
            upload.sendall(b"POST /v1/assets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx")
            show("stop with drain_seconds = 3, busy", timed(gateway.stop), unit="s")


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder, running_gateway(Path(folder)) as gateway:
        gateway.wait_ready()
        gateway.stop()
        show("start to accepting connections", timed(gateway.start), unit="s")
        gateway.stop()
        show("start to every backend up", timed(gateway.start) + timed(gateway.wait_ready), unit="s")
        chats = [stream_chat(gateway) for _ in range(4)]
        show("first token (from the second on, a known prompt)", *(first for first, _ in chats), unit="s")
        show("tokens a second, one thread", *(rate for _, rate in chats), unit="/s")
        run_jobs(gateway)
        assert gateway.process is not None
        pids = (gateway.process.pid, gateway.worker_pids()[0], gateway.llm_pids()[0])
        show("peak memory: gateway, worker, language model", *map(peak_megabytes, pids), unit="MB")
        break_things(gateway)
    with tempfile.TemporaryDirectory() as folder:
        stop_while_busy(Path(folder))


if __name__ == "__main__":
    main()
