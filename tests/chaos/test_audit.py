"""The audit is worth something when it finds what is broken: each promise is broken by hand."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.chaos.audit import Verdict, audit
from tests.chaos.databases import SqliteDatabase
from tests.chaos.outcome import Outcome, as_json, as_markdown, percentile, spread
from tests.gateway import picture

from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Idempotency, NewJob
from sluicegate.results.assets import Assets
from sluicegate.storage.contracts import Success
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.store import SqliteStore

ANNA = Tenant("anna")


class Kept:
    """A database that keeps every promise: one job has succeeded, one waits."""

    def __init__(self, folder: Path) -> None:
        self.pictures = folder / "assets"
        self.path = folder / "sluicegate.db"
        self.told: dict[tuple[str, str], str] = {}
        self._database = SqliteDatabase()
        self._database.place(folder)
        asyncio.run(self._fill())

    def judge(self) -> Verdict:
        """What the audit says of it."""
        return asyncio.run(audit(self._database, self.told, pictures=self.pictures, ended=False))

    def change(self, statement: str) -> None:
        """Break something."""
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement)
        connection.close()

    async def _fill(self) -> None:
        clock = SystemClock()
        store = SqliteStore(self.path, clock)
        assets = Assets(store, FileBlobStore(self.pictures, clock), clock, max_pixels=10**6)
        await store.open()
        for key in ("first", "second"):
            new = NewJob(id=new_job_id(), tenant=ANNA, model="m", task="upscale", input={})
            self.told[ANNA, key] = (await store.submit(new, Idempotency(key, "body"))).job.id
        claim = await store.claim(WorkerId("worker"), ["m"], 15.0)
        assert claim is not None
        asset = await assets.prepare(ANNA, Picture(picture(16, 16), "image/png", 16, 16))
        await store.succeed(claim.lease, Success(outputs=(asset,), backend="b", execution_seconds=0.0))
        await store.close()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_sound_database_has_no_faults(kept: Kept) -> None:
    verdict = kept.judge()
    assert verdict.faults == []
    assert verdict.ended == "1 queued, 1 succeeded"
    assert (verdict.jobs, verdict.attempts) == (2, 1)


_SECOND_EVENT = "INSERT INTO job_event SELECT job, max(seq) + 1, 'job.failed', 0.0, '{}' FROM job_event WHERE seq = 3"
_SECOND_ATTEMPT = "INSERT INTO attempt SELECT job, 2, 2, 'w', 0.0, 0.0, 'succeeded', NULL FROM attempt"


@pytest.mark.parametrize(
    ("statement", "kind", "sentence"),
    [
        ("DELETE FROM ledger", "lost", "an ended job has no row in the ledger"),
        ("DELETE FROM job_event WHERE kind = 'job.succeeded'", "lost", "an ended job has no terminal event"),
        ("UPDATE attempt SET outcome = 'failed'", "lost", "a succeeded job has no succeeded attempt"),
        ("UPDATE job_event SET seq = 9 WHERE seq = 3", "lost", "events are missing between others"),
        ("DELETE FROM idempotency", "lost", "the job told for a key is not its job"),
        ("DELETE FROM asset", "lost", "a result is not whole"),
        ("UPDATE job SET outputs = '[]'", "lost", "a result is not whole"),
        (_SECOND_EVENT, "duplicate", "a job has two terminal events"),
        (_SECOND_EVENT, "duplicate", "an event follows the terminal one"),
        (_SECOND_ATTEMPT, "duplicate", "a job has two succeeded attempts"),
        ("UPDATE idempotency SET job = (SELECT max(id) FROM job)", "duplicate", "a job has two keys"),
        (
            "INSERT INTO asset SELECT 'other', tenant, content_type, size_bytes, width, height, sha256, 0.0 FROM asset",
            "duplicate",
            "1 outputs and 0 uploads made 2 assets",
        ),
        ("UPDATE ledger SET cost = cost + 1", "wrong", "the ledger differs from the job"),
        ("UPDATE ledger SET cost = cost + 1", "wrong", "more was charged than the attempts lasted"),
        ("UPDATE attempt SET ended_at = NULL, outcome = NULL", "wrong", "an attempt at an ended job is still open"),
        ("UPDATE tenant SET running = 1", "wrong", "a tenant's counters are not the truth"),
        ("UPDATE tenant SET queued_cost = 0.5", "wrong", "a tenant's counters are not the truth"),
        ("DELETE FROM tenant", "wrong", "a tenant has no counters"),
        ("UPDATE lane SET queued = 2", "wrong", "a lane's counter is not the truth"),
        ("DELETE FROM lane", "wrong", "a queued job has no lane"),
        ("UPDATE lane SET vtime = vtime + 1", "wrong", "a lane's copy of its tenant is stale"),
    ],
)
def test_a_broken_promise_is_found(kept: Kept, statement: str, kind: str, sentence: str) -> None:
    kept.change(statement)
    assert [fault for fault in getattr(kept.judge(), kind) if fault.startswith(sentence)]


def test_a_job_that_nobody_was_told_of_is_found(kept: Kept) -> None:
    del kept.told[ANNA, "second"]
    assert kept.judge().duplicate == ["1 keys made 2 jobs"]


def test_a_picture_whose_bytes_are_gone_is_found(kept: Kept) -> None:
    for blob in kept.pictures.rglob("*"):
        if blob.is_file() and blob.stat().st_size:
            blob.unlink()
    assert "a result is not whole" in kept.judge().lost[0]


def test_a_report_tells_what_was_held_and_what_was_not() -> None:
    held = Outcome(row="1", engine="sqlite", title="A title", seed=7, jobs=2, seconds=3.0, figures={"lost": 0})
    broken = Outcome(
        row="2", engine="postgres", title="B", seed=7, jobs=2, seconds=3.0, figures={"p": 1.5}, faults=["a job is lost"]
    )
    assert held.held
    assert not broken.held
    text = as_markdown([held, broken])
    assert "## Row 1, sqlite: held" in text
    assert "## Row 2, postgres: NOT HELD" in text
    assert "| p | 1.5 |" in text
    assert b'"faults"' in as_json([broken])


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([3.0], 0.99)) == (50.0, 99.0, 3.0)
    assert spread(values) == "50 / 99 / 100"
