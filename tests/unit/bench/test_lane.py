"""The bench's own arithmetic, its report, and the load test for users."""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from bench.lane.__main__ import without_places, write
from bench.lane.bed import Bed, prepared_bed
from bench.lane.contenders.direct import Direct
from bench.lane.cores import Watch, choose_cores, core_times, family, pinned, processor_seconds
from bench.lane.plot import draw
from bench.lane.programs import compiler
from bench.lane.report import LaneReport, render
from bench.lane.scenarios import CASES, PLAIN
from bench.lane.start import Start
from bench.lane.targets import Results, Target, targets
from bench.lane.throughput import Failure, Plan, Turn, middle, throughput
from bench.load_test import Callers, measure, percentiles, serving_pid
from bench.machine import machine

PATIENCE = 30.0
"""Seconds: on a busy machine a short span may pass without an answer."""
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with prepared_bed() as bed:
        yield bed


@pytest.fixture(scope="module")
def turns(bed: Bed) -> list[Turn]:
    """A real, short run without a gateway."""
    cases = [case for case in CASES if case.name in {"plain1", "burst"}]
    plan = Plan(rounds=2, seconds=0.2, warmup=0.02, retries=0)
    turns, failures = throughput(bed, [Direct()], cases, plan, advance=lambda _: None)
    assert not failures
    return turns


def report_of(turns: list[Turn], folder: Path) -> LaneReport:
    return LaneReport(
        machine=machine(folder),
        command="python -m bench.lane",
        quick=True,
        cores={"gateway": [1], "load": [0]},
        versions={"direct": "no gateway"},
        rounds=2,
        seconds=0.1,
        turns=turns,
        starts=[Start("sluicegate", [100.0, 120.0, 140.0], [90.0])],
        failures=[Failure("other", "start", f"cannot read {Path.cwd()}/bench | really")],
    )


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(0.5, False, "missed"), (0.55, False, "met"), (1.0, False, "aim reached"), (None, False, "not measured"),
     (60.0, True, "missed"), (0.9, True, "met"), (0.5, True, "aim reached")],
)  # fmt: skip
def test_a_target_is_met_at_its_bound(*, value: float | None, at_most: bool, verdict: str) -> None:
    must, aim = (1.0, 0.5) if at_most else (0.55, 1.0)
    assert Target("it", must, aim, at_most, "×", value).verdict == verdict


def test_a_target_that_was_not_measured_says_so() -> None:
    assert {target.verdict for target in targets(Results([], [], []), "sluicegate")} == {"not measured"}


def test_the_cold_start_is_judged_by_its_median() -> None:
    found = targets(Results([], [], [Start("sluicegate", [100.0, 120.0, 900.0], [])]), "sluicegate")
    assert [target.value for target in found if "cold start" in target.title] == [120.0]


def test_the_middle_of_nothing_is_nothing() -> None:
    assert middle([]) == (0, 0, 0)
    assert middle([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


@needs_compiler
def test_rounds_are_interleaved_and_every_turn_is_kept(turns: list[Turn]) -> None:
    assert [(turn.round, turn.case) for turn in turns] == [(1, "plain1"), (1, "burst"), (2, "plain1"), (2, "burst")]
    assert all(not (turn.loop.failed or turn.loop.refused or turn.loop.cut_short) for turn in turns)


@needs_compiler
def test_a_report_survives_its_json_and_has_a_table_for_each_case(turns: list[Turn], tmp_path: Path) -> None:
    report = report_of(turns, tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(report), type=LaneReport) == report
    text = render(report, ours="sluicegate", limit="nginx")
    for case in ("Not streamed, 1 caller", "Short streams: 34 events in one write", "Cold start"):
        assert f"## {case}" in text
    assert "| cold start, to the first chat answer | ≤250 | ≤130 | 120.00 ms | aim reached |" in text


@needs_compiler
def test_a_written_report_names_no_folder_of_this_machine(turns: list[Turn], tmp_path: Path) -> None:
    write(report_of(turns, tmp_path), tmp_path / "out")
    written = (tmp_path / "out" / "report.md").read_text() + (tmp_path / "out" / "report.json").read_text()
    assert "cannot read ./bench" in written
    assert str(Path.cwd()) not in written


@needs_compiler
def test_the_plot_shows_every_contender_but_the_direct_way(turns: list[Turn], tmp_path: Path) -> None:
    draw(report_of(turns, tmp_path), tmp_path / "nothing.png", ours="sluicegate")
    assert not (tmp_path / "nothing.png").exists()
    answered = [turn for turn in turns if turn.loop.requests]
    named = [msgspec.structs.replace(turn, contender="sluicegate") for turn in answered]
    draw(report_of(named, tmp_path), tmp_path / "one.png", ours="sluicegate")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_command_is_told_without_folders_of_this_machine(tmp_path: Path) -> None:
    report = msgspec.structs.replace(report_of([], tmp_path), command=f"python -m bench.lane --out {Path.home()}/x")
    assert without_places(report).command == "python -m bench.lane --out ~/x"


def test_a_process_s_family_holds_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())
        child.kill()


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(choose_cores().load):
        assert os.sched_getaffinity(0) == set(choose_cores().load)
    assert os.sched_getaffinity(0) == before


def test_what_others_took_is_a_share() -> None:
    cores = choose_cores()
    watch = Watch(cores.gateway, cores.load, [os.getpid()], [])
    busy = processor_seconds([os.getpid()])
    while processor_seconds([os.getpid()]) < busy + 0.05:
        pass
    assert all(0 <= share <= 1 for share in watch.shares())
    assert set(core_times()) >= set(cores.gateway)


def test_percentiles_of_one_sample_are_that_sample() -> None:
    spread = percentiles([4.0])
    assert spread is not None
    assert (spread.p50, spread.p99, spread.max, spread.samples) == (4.0, 4.0, 4.0, 1)
    assert percentiles([]) is None


@needs_compiler
@pytest.mark.parametrize("stream", [False, True])
def test_the_load_from_python_is_answered_as_that_from_c_is(bed: Bed, *, stream: bool) -> None:
    body = msgspec.json.encode({"model": PLAIN, "messages": [{"role": "user", "content": "hi"}], "stream": stream})
    callers = Callers(urlsplit(f"http://127.0.0.1:{bed.upstream.port}"), "k", body, stream=stream)
    end = time.monotonic() + PATIENCE
    while not callers.latencies and time.monotonic() < end:
        asyncio.run(callers.run(3, 0.3))
    assert callers.latencies
    assert callers.failed == 0
    assert len(callers.firsts) == len(callers.latencies) * stream


@needs_compiler
def test_the_load_test_finds_the_process_behind_a_port(bed: Bed) -> None:
    assert serving_pid(bed.upstream.port) == bed.upstream.pid


@needs_compiler
def test_the_load_test_measures_a_server_of_this_machine(bed: Bed) -> None:
    asked = argparse.Namespace(model=PLAIN, key="", connections=2, seconds=0.3, stream=True, max_tokens=8)
    end = time.monotonic() + PATIENCE
    outcome, words = measure(urlsplit(f"http://127.0.0.1:{bed.upstream.port}"), asked)
    while not outcome.requests and time.monotonic() < end:
        outcome, words = measure(urlsplit(f"http://127.0.0.1:{bed.upstream.port}"), asked)
    assert "the C program" in words
    assert outcome.requests > 0
    assert outcome.first_token is not None
    assert outcome.memory_mb is not None
