"""SIGTERM: running work ends or is handed back, nothing new is begun, the process is gone in time."""

import signal
import sqlite3
from pathlib import Path

import httpx
from tests.gateway import eventually, picture, running_gateway

CONFIG = """
[[backends]]
name = "local-llm"
kind = "local-llm"
[[backends]]
name = "local-image"
kind = "local-image"
[server]
drain_seconds = {drain}
"""


def test_a_running_job_ends_before_the_gateway_stops_and_waiting_ones_stay_queued(tmp_path: Path) -> None:
    with running_gateway(tmp_path, CONFIG.format(drain=30)) as gateway:
        gateway.wait_ready()
        image = gateway.upload(picture(400, 300))
        jobs = [gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})["id"] for _ in range(4)]
        eventually(lambda: gateway.get(f"/v1/jobs/{jobs[0]}").json()["status"], lambda status: status == "running")
        assert gateway.stop() == 0
        states = _states(gateway.data_dir)
        assert states[jobs[0]] == "succeeded"
        assert states[jobs[3]] == "queued"
        gateway.start()
        assert {gateway.finished(job)["status"] for job in jobs} == {"succeeded"}
        assert [gateway.get(f"/v1/jobs/{job}").json()["metrics"]["attempts"] for job in jobs] == [1, 1, 1, 1]


def test_work_that_outlasts_the_drain_is_handed_back_and_done_after_the_restart(tmp_path: Path) -> None:
    with running_gateway(tmp_path, CONFIG.format(drain=2.5)) as gateway:
        gateway.wait_ready()
        image = gateway.upload(picture(1200, 900))
        job = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})["id"]
        eventually(lambda: gateway.get(f"/v1/jobs/{job}").json()["progress"], lambda progress: progress is not None)
        assert gateway.stop() == 0
        assert _states(gateway.data_dir)[job] == "queued"
        gateway.start()
        eventually(lambda: gateway.get(f"/v1/jobs/{job}").json()["status"], lambda status: status == "running")
        canceled = gateway.post(f"/v1/jobs/{job}/cancel").json()
        assert canceled["status"] in ("canceling", "canceled")
        assert gateway.finished(job)["status"] == "canceled"


def test_a_stream_is_finished_while_new_work_is_refused_when_the_gateway_stops(tmp_path: Path) -> None:
    with running_gateway(tmp_path, CONFIG.format(drain=30)) as gateway:
        gateway.wait_ready()
        body = {
            "model": "smollm2-135m",
            "stream": True,
            "max_tokens": 200,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Count to twenty."}],
        }
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGTERM)
            eventually(lambda: gateway.get("/health/ready").status_code, lambda status: status == 503)
            for path, refused in (("/v1/chat/completions", body), ("/v1/jobs", {"task": "upscale", "input": {}})):
                told = gateway.post(path, json=refused)
                assert told.status_code == 503
                assert told.headers["retry-after"]
            rest = [first, *lines]
        assert "data: [DONE]" in rest
        assert gateway.stop() == 0


def _states(data_dir: Path) -> dict[str, str]:
    connection = sqlite3.connect(data_dir / "sluicegate.db")
    try:
        return dict(connection.execute("SELECT id, state FROM job").fetchall())
    finally:
        connection.close()
