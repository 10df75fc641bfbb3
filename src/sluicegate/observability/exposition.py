"""A dump in Prometheus' text format, byte for byte as `prometheus_client` would write it.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, format 0.0.4.
"""

import itertools
import math
from collections.abc import Iterator

from sluicegate.observability.tallies import FamilyDump, MetricsDump, SeriesDump

_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_EXPONENT_FROM = 1_000_000
"""Go, the format's home, writes floats from here on with an exponent; Python begins at 1e16."""


def render(dump: MetricsDump) -> bytes:
    """The text in UTF-8: for each family its HELP and TYPE lines and its samples, labels ordered by name."""
    lines: list[str] = []
    for family in dump.families:
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(_buckets(family) if family.kind == "histogram" else _numbers(family))
    lines.append("")
    return "\n".join(lines).encode()


def number(value: float) -> str:
    """A sample's value: 3 is `3.0`, 1 250 000 is `1.25e+06`, infinity is `+Inf`."""
    if -math.inf < value < _EXPONENT_FROM:
        return repr(float(value))
    text = repr(float(value))
    if "e" not in text and "." in text:
        whole, _, fraction = text.partition(".")
        digits = (whole + fraction).rstrip("0")
        point = "." if len(digits) > 1 else ""
        return f"{digits[0]}{point}{digits[1:]}e+{len(whole) - 1:02d}"
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _numbers(family: FamilyDump) -> Iterator[str]:
    for series in family.series:
        labels = ",".join(text for _, text in _labels(family, series))
        yield f"{family.name}{_braced(labels)} {number(series.values[0] / family.parts)}"


def _buckets(family: FamilyDump) -> Iterator[str]:
    """The samples of a histogram. Each bucket counts what the smaller ones do, too."""
    name = family.name
    bounds = [number(bound) for bound in (*family.bounds, math.inf)]
    for series in family.series:
        labels = _labels(family, series)
        before = "".join(f"{text}," for label, text in labels if label < "le")
        after = "".join(f",{text}" for label, text in labels if label > "le")
        *counts, total = series.values
        head = f'{name}_bucket{{{before}le="'
        sums = list(map(number, itertools.accumulate(counts)))
        for bound, count in zip(bounds, sums, strict=True):
            yield f'{head}{bound}"{after}}} {count}'
        braced = _braced(",".join(text for _, text in labels))
        yield f"{name}_count{braced} {sums[-1]}"
        yield f"{name}_sum{braced} {number(total / family.parts)}"


def _labels(family: FamilyDump, series: SeriesDump) -> list[tuple[str, str]]:
    """Each label's name, and the label as it is written."""
    pairs = sorted(zip(family.labels, series.labels, strict=True))
    return [(name, f'{name}="{value.translate(_LABEL_ESCAPES)}"') for name, value in pairs]


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""
