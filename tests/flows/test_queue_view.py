"""The queue of several tenants as an operator sees it: over HTTP, in the metrics and at a terminal."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.gateway import PATIENCE, RunningGateway, eventually, picture, running_gateway

from sluicegate.app.parts import build_assets, build_blobs, open_store
from sluicegate.domain.asset import Picture
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, NewJob
from sluicegate.settings import Settings, load_settings
from sluicegate.storage.contracts import Store, WorkerInfo

T = TypeVar("T")
CLI = [sys.executable, "-m", "sluicegate"]
PAUSED = '[worker]\nprocesses = 0\n[[backends]]\nname = "local-image"\nkind = "local-image"\n'
"""A gateway without workers, so that what waits goes on waiting."""
ACME, ZOO = Tenant("acme"), Tenant("zoo")
PRO, CAPPED = Tier(name="pro", weight=16.0), Tier(name="free", concurrent_jobs=1)
TESTER = WorkerId("worker_tester")
NOBODY = 'no live worker serves the pool "default"; start one: sluicegate work --pool default'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway with five jobs of acme, two of zoo and one of its own, and nobody to do them."""
    with running_gateway(tmp_path, PAUSED) as running:
        with_store(running, lambda store: fill(running, store))
        asset = running.upload(picture())
        running.submit({"model": "style-transfer", "input": {"image": asset, "style": 1}})
        yield running


def settings_of(gateway: RunningGateway) -> Settings:
    config = gateway.data_dir.parent / "sluicegate.toml"
    return load_settings(config, environment={}, overrides={"data_dir": str(gateway.data_dir)})


def with_store(gateway: RunningGateway, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something over a second connection to the gateway's store."""

    async def scenario() -> T:
        async with open_store(settings_of(gateway)) as store:
            return await work(store)

    return asyncio.run(scenario())


async def fill(gateway: RunningGateway, store: Store) -> None:
    settings = settings_of(gateway)
    assets = build_assets(settings, store, build_blobs(settings))
    for tenant, tier, jobs in ((ACME, PRO, 5), (ZOO, CAPPED, 2)):
        asset = await assets.record(tenant, Picture(picture(), "image/png", 64, 48))
        for style in range(1, jobs + 1):
            new = NewJob(
                id=new_job_id(),
                tenant=tenant,
                tier=tier,
                model="style-transfer",
                task="stylize",
                input={"image": asset.id, "style": style},
                cost=2.0,
            )
            await store.submit(new)


async def take_one(store: Store) -> Claim:
    """Be the only worker, and busy."""
    models = ("style-transfer", "sprout")
    await store.enlist(
        WorkerInfo(
            id=TESTER, host="here", pid=1, started_at=0.0, seen_at=0.0, models=models, loaded=("style-transfer",)
        )
    )
    claim = await store.claim(TESTER, models, 600.0, loaded=("style-transfer",))
    assert claim is not None
    return claim


def queue(gateway: RunningGateway, question: str = "") -> dict[str, Any]:
    """The only pool of the queue's report."""
    answer = gateway.get(f"/admin/queue{question}")
    assert answer.status_code == 200, answer.text
    (pool,) = answer.json()["pools"]
    return dict(pool)


def rows(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    return {row["tenant"]: row for row in queue(gateway)["tenants"]}


def gauge(gateway: RunningGateway, name: str, **labels: str) -> float:
    """A metric's value."""
    wanted = f"{name}{{" + ",".join(f'{label}="{text}"' for label, text in sorted(labels.items())) + "}"
    (line,) = [line for line in gateway.get("/metrics").text.splitlines() if line.startswith(wanted)]
    return float(line.rpartition(" ")[2])


def sluicegate(gateway: RunningGateway, *arguments: str) -> str:
    """What a command prints."""
    surroundings = {**os.environ, "SLUICEGATE_URL": gateway.url}
    done = subprocess.run(
        [*CLI, *arguments], env=surroundings, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def one_more_worker(gateway: RunningGateway) -> Iterator[None]:
    """`sluicegate work` on the gateway's store."""
    config = gateway.data_dir.parent / "sluicegate.toml"
    command = [*CLI, "work", "--config", str(config), "--data-dir", str(gateway.data_dir)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            yield
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(PATIENCE)


def test_without_a_worker_every_tenant_is_told_so_and_counted(gateway: RunningGateway) -> None:
    pool = queue(gateway)
    assert (pool["pool"], pool["capacity"]["workers"], pool["running_jobs"]) == ("default", 0, [])
    assert (pool["totals"]["tenants"], pool["totals"]["queued"], pool["rest"]) == (3, 8, None)
    told = {row["tenant"]: (row["tier"], row["queued"], row["queued_cost"], row["cap"]) for row in pool["tenants"]}
    assert told["acme"] == ("pro", 5, 10.0, None)
    assert told["zoo"] == ("free", 2, 4.0, 1)
    assert {row["why"] for row in pool["tenants"]} == {NOBODY}
    waits = [row["longest_wait_seconds"] for row in pool["tenants"]]
    assert waits == sorted(waits, reverse=True)
    assert [row["tenant"] for row in pool["tenants"]] == ["acme", "zoo", "local"]


def test_filters_list_less_and_count_the_same(gateway: RunningGateway) -> None:
    one = queue(gateway, "?tenant=zoo")
    assert [row["tenant"] for row in one["tenants"]] == ["zoo"]
    assert (one["totals"]["queued"], one["rest"]["queued"]) == (8, 6)
    first = queue(gateway, "?limit=1")
    assert [row["tenant"] for row in first["tenants"]] == ["acme"]
    assert first["rest"]["tenants"] == 2
    assert gateway.get("/admin/queue?pool=elsewhere").json()["pools"] == []


@pytest.mark.parametrize("question", ["limit=0", "limit=501", "limit=many", "tenants=zoo", "tenant="])
def test_a_question_that_makes_no_sense_is_a_problem_document(gateway: RunningGateway, question: str) -> None:
    answer = gateway.get(f"/admin/queue?{question}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_input"
    assert question.partition("=")[0] in answer.json()["errors"][0]["field"]


def test_a_busy_worker_shows_its_job_and_who_is_next(gateway: RunningGateway) -> None:
    claim = with_store(gateway, take_one)
    served = claim.job.tenant
    pool = queue(gateway)
    assert (pool["capacity"]["workers"], pool["capacity"]["busy"]) == (1, 1)
    assert pool["capacity"]["models"]["style-transfer"] == {"workers": 1, "loaded": 1}
    (running,) = pool["running_jobs"]
    assert (running["job"], running["tenant"], running["worker"]) == (claim.job.id, served, TESTER)
    told = rows(gateway)
    assert {name: row["share"]["running"] for name, row in told.items()} == {
        name: float(name == served) for name in told
    }
    assert sum(row["share"]["due"] for row in told.values()) == pytest.approx(1.0)
    assert told[served]["ahead"] > 0.0
    firsts = [row["why"] for row in told.values() if str(row["why"]).startswith("the tenant is first in line;")]
    assert len(firsts) == 1
    assert all("the only worker is busy" in row["why"] for row in told.values() if row["running"] == 0)


def test_a_tenant_at_its_cap_is_told_which(gateway: RunningGateway) -> None:
    async def serve_zoo(store: Store) -> None:
        while (await take_one(store)).job.tenant != ZOO:
            pass

    with_store(gateway, serve_zoo)
    why = rows(gateway)["zoo"]["why"]
    assert why.startswith('the tenant runs 1 of the 1 jobs that its tier "free" lets it run at once')


def test_metrics_add_the_tenants_up_by_tier_and_name_none(gateway: RunningGateway) -> None:
    assert gauge(gateway, "sluicegate_queue_jobs", pool="default", tier="pro", state="queued") == 5
    assert gauge(gateway, "sluicegate_queue_jobs", pool="default", tier="basic", state="queued") == 0
    assert gauge(gateway, "sluicegate_queue_cost_seconds", pool="default", tier="free") == 4.0
    assert gauge(gateway, "sluicegate_queue_longest_wait_seconds", pool="default", tier="pro") > 0
    assert gauge(gateway, "sluicegate_pool_workers", pool="default") == 0
    with_store(gateway, take_one)
    assert gauge(gateway, "sluicegate_pool_workers", pool="default") == 1
    text = gateway.get("/metrics").text
    assert "acme" not in text
    assert "zoo" not in text


def test_the_command_shows_the_same_queue(gateway: RunningGateway) -> None:
    text = sluicegate(gateway, "jobs", "queue")
    assert "pool default   0 workers (0 busy)   queued 8 " in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("acme", "zoo", "local"))] == [
        "acme",
        "zoo",
        "local",
    ]
    assert f"acme, zoo, local: {NOBODY}" in text
    shown = json.loads(sluicegate(gateway, "jobs", "queue", "--tenant", "zoo", "--json"))
    assert [row["tenant"] for row in shown["pools"][0]["tenants"]] == ["zoo"]


def test_a_waiting_job_says_why_over_http_and_at_the_terminal(gateway: RunningGateway) -> None:
    (listed,) = gateway.get("/v1/jobs").json()["data"]
    assert gateway.get(f"/v1/jobs/{listed['id']}").json()["waiting_for"] == NOBODY
    assert f"why       {NOBODY}" in sluicegate(gateway, "jobs", "show", listed["id"])


def test_the_live_queue_shows_until_ctrl_c(gateway: RunningGateway) -> None:
    master, slave = pty.openpty()
    surroundings = {**os.environ, "SLUICEGATE_URL": gateway.url, "TERM": "xterm"}
    command = [*CLI, "jobs", "queue", "--watch"]
    with subprocess.Popen(command, env=surroundings, stdin=slave, stdout=slave, stderr=slave) as child:
        os.close(slave)
        try:
            screen = ""
            while "no live worker" not in screen:
                screen += os.read(master, 4_096).decode("utf-8", "replace")
            child.send_signal(signal.SIGINT)
            assert child.wait(PATIENCE) == 130
        finally:
            child.kill()
            os.close(master)


def test_the_waits_end_and_are_told_when_a_worker_comes(gateway: RunningGateway) -> None:
    body = {"model": "style-transfer", "input": {"image": gateway.upload(picture(seed=1)), "style": 2}}
    for _ in range(2):
        gateway.submit(body, idempotency_key="once")
    with one_more_worker(gateway):
        empty = eventually(
            lambda: queue(gateway), lambda pool: pool["totals"]["queued"] == 0 == pool["totals"]["running"]
        )
        assert (empty["tenants"], empty["rest"], empty["totals"]["longest_wait_seconds"]) == ([], None, None)
        assert empty["capacity"]["workers"] == 1
        assert empty["virtual_time"] > 0.0
        told = eventually(lambda: waits_told(gateway, "local"), lambda count: count > 1)
    assert told == 2
    assert waits_told(gateway, "pro") == 0
    jobs = gateway.get("/v1/jobs").json()["data"]
    assert [(job["status"], job["waiting_for"]) for job in jobs] == [("succeeded", None)] * 2


def waits_told(gateway: RunningGateway, tier: str) -> int:
    """How many jobs of a tier the histogram of waits has. Those of others came to the store behind the gateway."""
    start = f'sluicegate_queue_wait_seconds_count{{tier="{tier}"}} '
    lines = [line for line in gateway.get("/metrics").text.splitlines() if line.startswith(start)]
    return int(float(lines[0].removeprefix(start))) if lines else 0
