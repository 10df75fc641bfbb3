"""The report: every figure as JSON, the same as tables in Markdown."""

from collections.abc import Sequence

import msgspec
from bench.lane.hardship import Hardships
from bench.lane.memory import Footprint
from bench.lane.scenarios import CASES, Case
from bench.lane.start import Start
from bench.lane.targets import Results, added, rate, targets
from bench.lane.throughput import QUIET_SHARE, Failure, Middle, Turn, middle, percentile
from bench.machine import Machine


class LaneReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured in one run."""

    machine: Machine
    command: str
    quick: bool
    cores: dict[str, list[int]]
    versions: dict[str, str]
    """Of every contender that took part."""
    rounds: int
    seconds: float
    turns: list[Turn] = []
    footprints: list[Footprint] = []
    starts: list[Start] = []
    hardships: Hardships | None = None
    failures: list[Failure] = []


def render(report: LaneReport, *, ours: str, limit: str) -> str:
    """The report as Markdown; ratios are to the contenders `limit` and `ours`."""
    parts = ["# The fast lane, measured\n", _facts(report), _targets(report, ours)]
    shown = [case for case in CASES if any(turn.case == case.name for turn in report.turns)]
    parts += [_case(case, report, ours, limit) for case in shown]
    if report.turns:
        parts.append(_tokens(report))
    if report.footprints:
        parts.append(_memory(report.footprints))
    if report.starts:
        parts.append(_starts(report.starts))
    if report.hardships is not None:
        parts += _hardships(report.hardships)
    if report.failures:
        rows = [[it.contender, it.what, " ".join(it.why.split())[:300].replace("|", "\\|")] for it in report.failures]
        parts.append(f"## What could not be measured\n\n{table(['contender', 'what', 'why'], rows)}")
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _facts(report: LaneReport) -> str:
    it = report.machine
    disturbed = [turn for turn in report.turns if max(turn.others_with_gateway, turn.others_with_load) > QUIET_SHARE]
    share = (
        f"{len(disturbed)} of {len(report.turns)} measurements had others take more than {QUIET_SHARE:.0%} of a core"
    )
    lines = [
        f"- {it.at} UTC{', a quick run: rough' if report.quick else ''}. Written by `{report.command}`.",
        f"- {it.processor}, {it.cores} cores, {it.memory_gib:.0f} GiB, {it.system}; load before the run {it.load:.1f}.",
        f"- The contender alone on core {_words(report.cores['gateway'])}, upstream and load generator on core "
        f"{_words(report.cores['load'])}; {_rounds(report.rounds)} of {report.seconds:g} s after a warm-up. "
        "HTTP/1.1 on loopback, kept connections, no TLS; requests of about 1.1 KB that all differ.",
        f"- {share}." if report.turns else "",
        *(f"- {name}: {version}." for name, version in report.versions.items()),
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _rounds(count: int) -> str:
    return f"{count} interleaved rounds" if count > 1 else "one round"


def _words(cores: Sequence[int]) -> str:
    return " and ".join(map(str, cores))


def _targets(report: LaneReport, ours: str) -> str:
    results = Results(report.turns, report.footprints, report.starts)
    rows = []
    for it in targets(results, ours):
        sign = "≤" if it.at_most else "≥"
        value = "–" if it.value is None else f"{it.value:.2f} {it.unit}"
        rows.append([it.title, f"{sign}{it.must:g}", f"{sign}{it.aim:g}", value, it.verdict])
    return f"## Targets\n\nOf `{ours}`.\n\n{table(['', 'must', 'aim', 'measured', 'verdict'], rows)}"


def _case(case: Case, report: LaneReport, ours: str, limit: str) -> str:
    limit_cost = middle([turn.cpu_microseconds for turn in _of(report.turns, case.name, limit)]).median
    base = {name: rate(report.turns, case.name, name) for name in (limit, ours)}
    rows = []
    for name, turns in _by_contender(report.turns, case.name):
        per_second = middle([turn.per_second for turn in turns])
        ratios = [_ratio(per_second.median, base[other]) for other in (limit, ours)]
        cost = middle([turn.cpu_microseconds for turn in turns])
        bad = sum(turn.loop.failed + turn.loop.refused + turn.loop.cut_short for turn in turns)
        rows.append(
            [
                name,
                _range(per_second, "{:,.0f}"),
                *ratios,
                _range(percentile(turns, "latency", "p50"), "{:.2f}"),
                _range(percentile(turns, "latency", "p99"), "{:.1f}"),
                _range(cost, "{:,.1f}"),
                _ratio(limit_cost, cost.median),
                f"{max(max(turn.others_with_gateway, turn.others_with_load) for turn in turns):.0%}",
                str(bad) if bad else "",
            ]
        )
    head = ["contender", "answers a second", f"÷ {limit}", f"÷ {ours}", "p50 ms", "p99 ms", "CPU µs each"]
    return f"## {_capital(case.title)}\n\n{table([*head, f'÷ {limit} by CPU', 'others took', 'failed'], rows)}"


def _tokens(report: LaneReport) -> str:
    rows = []
    for name, turns in _by_contender(report.turns, "streams"):
        delta = [added(report.turns, name, it) for it in ("p50", "p99")]
        rows.append(
            [
                name,
                _range(middle([turn.tokens_per_second for turn in turns]), "{:,.0f}"),
                *(_range(percentile(turns, "first_token", it), "{:.1f}") for it in ("p50", "p99")),
                *("–" if it is None else f"{it:.1f}" for it in delta),
                *(_range(percentile(turns, "token_delay", it), "{:.1f}") for it in ("p50", "p99", "max")),
            ]
        )
    if not rows:
        return ""
    head = ["contender", "tokens a second", "first token p50 ms", "p99", "added p50 ms", "p99"]
    words = (
        "The first token is due 20 ms after the request. Added: against the same without a gateway. Delay: from the "
        "moment at which the upstream made a token to its arrival at the caller, by the time written in the token."
    )
    title = f"## Tokens, {CASES[-1].title}"
    return f"{title}\n\n{words}\n\n{table([*head, 'token delay p50 ms', 'p99', 'max'], rows)}"


def _memory(footprints: Sequence[Footprint]) -> str:
    levels = sorted({level.streams for footprint in footprints for level in footprint.levels})
    rows = []
    for footprint in footprints:
        by_level = {level.streams: level for level in footprint.levels}
        cells = []
        for streams in levels:
            level = by_level.get(streams)
            if level is None or level.with_first_token < streams:
                cells.append(f"only {level.with_first_token} came" if level is not None else "–")
            else:
                cells.append(f"{level.rss_kb / 1024:.0f} ({level.pss_kb / 1024:.0f})")
        rows.append([footprint.contender, *cells])
    head = ["contender", *(f"{streams:,} streams" for streams in levels)]
    return (
        f"## Memory with open streams\n\nRSS in MB, and PSS in brackets, of all its processes.\n\n{table(head, rows)}"
    )


def _starts(found: Sequence[Start]) -> str:
    rows = [
        [
            it.contender,
            _range(middle(it.chat_ms), "{:,.0f}"),
            _range(middle(it.live_ms), "{:,.0f}") if it.live_ms else "–",
        ]
        for it in found
    ]
    head = ["contender", "first chat answer, ms", "first health answer, ms"]
    return f"## Cold start\n\nFrom the spawn; files are cached by the system.\n\n{table(head, rows)}"


def _hardships(found: Hardships) -> list[str]:
    parts = []
    if found.vanishings:
        phases = list(dict.fromkeys(it.phase for it in found.vanishings))
        rows = []
        for name in dict.fromkeys(it.contender for it in found.vanishings):
            by_phase = {it.phase: it for it in found.vanishings if it.contender == name}
            cells = []
            for phase in phases:
                it = by_phase.get(phase)
                words = _range(middle(it.cancelled_ms), "{:.1f}") if it and it.cancelled_ms else ""
                cells.append(f"{words} ({it.never} never)" if it and it.never else words or "–")
            rows.append([name, *cells])
        words = "From the caller's close to the upstream's notice of it, ms; never: not within five seconds."
        parts.append(f"## Callers that vanish\n\n{words}\n\n{table(['contender', *phases], rows)}")
    if found.stalls:
        rows = [
            [
                it.contender,
                str(it.callers),
                f"{it.memory[0].rss_kb / 1024:.0f}",
                f"{it.grown_mb:+.1f}",
                f"{it.upstream_bytes / 1e6:,.0f}",
            ]
            for it in found.stalls
        ]
        head = ["contender", "callers", "RSS MB before", "grown by MB", "taken from the upstream, MB"]
        words = (
            "Callers that ask for endless streams and read nothing; what is taken lies in buffers, the system's too."
        )
        parts.append(f"## Callers that stall\n\n{words}\n\n{table(head, rows)}")
    if found.crowds:
        parts.append(_crowds(found))
    return parts


def _crowds(found: Hardships) -> str:
    rows = []
    for it in found.crowds:
        delays = [
            f"{loop.token_delay.p99:.1f}" if loop.token_delay is not None else "–" for loop in (it.alone, it.beside)
        ]
        firsts = [f"{loop.first_token.p99:.1f}" if loop.first_token else "–" for loop in (it.alone, it.beside)]
        sizes = [sample.rss_kb / 1024 for sample in it.memory]
        bad = it.beside.failed + it.beside.refused + it.beside.cut_short
        rows.append(
            [
                it.contender,
                *firsts,
                *delays,
                f"{sizes[0]:.0f} → {max(sizes):.0f} → {sizes[-1]:.0f}",
                str(it.left_at_upstream),
                str(bad),
            ]
        )
    head = ["contender", "first token p99 ms, alone", "in the crowd", "token delay p99 ms, alone", "in the crowd"]
    head += ["RSS MB: first, most, last", "left at the upstream", "healthy calls failed"]
    words = (
        f"A hundred healthy streams of 50 tokens, alone and beside {found.crowds[0].callers:,} callers of which a "
        "third vanish, a third stall and a third read a byte a second, from when the buffers of those are full."
    )
    return f"## A crowd of bad callers\n\n{words}\n\n{table(head, rows)}"


def _by_contender(turns: Sequence[Turn], case: str) -> list[tuple[str, list[Turn]]]:
    names = {turn.contender for turn in turns if turn.case == case}
    grouped = {name: _of(turns, case, name) for name in names}
    fastest = sorted(grouped, key=lambda name: -middle([turn.per_second for turn in grouped[name]]).median)
    return [(name, grouped[name]) for name in fastest]


def _of(turns: Sequence[Turn], case: str, contender: str) -> list[Turn]:
    return [turn for turn in turns if (turn.case, turn.contender) == (case, contender)]


def _range(it: Middle, form: str) -> str:
    """The median, and the extremes where they differ from it as shown."""
    median, least, most = (form.format(value) for value in it)
    return median if least == median == most else f"{median} ({least}–{most})"


def _ratio(figure: float, reference: float | None) -> str:
    return f"{figure / reference:.2f}" if figure and reference else "–"


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]
