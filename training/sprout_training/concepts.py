"""Which things Sprout learns, and what they are called."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sprout_training.folders import folders
from sprout_training.recipe import Breadth, current

ALIASES = Path(__file__).with_name("aliases.json")

EVERYDAY_LABELS = Path(__file__).with_name("everyday.txt")

_COMPONENTS, _PEOPLE, _SYMBOLS, _FLAGS = 2, 1, 8, 9


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing: `label` is its plain name, `tags` other words for it, `aliases` other names as common as the label."""

    label: str
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    group: int
    subgroup: str
    hexcode: str


def choose(captions: Path, breadth: Breadth) -> list[Concept]:
    """The concepts of emojibase's English data that `breadth` keeps, in its order."""
    entries = json.loads((captions / "en/data.json").read_text())
    names = json.loads((captions / "en/messages.json").read_text())["subgroups"]
    subgroups = {entry["order"]: entry["key"] for entry in names}
    aliases: dict[str, list[str]] = json.loads(ALIASES.read_text())
    found = [_concept(entry, subgroups, aliases) for entry in entries if "group" in entry]
    if breadth == "everyday":
        wanted = set(EVERYDAY_LABELS.read_text().splitlines())
        return [concept for concept in found if concept.label in wanted]
    return [concept for concept in found if _kept(concept)]


def load(file: Path) -> list[Concept]:
    """Read what `main` wrote."""
    return [Concept(**{**row, "tags": tuple(row["tags"]), "aliases": tuple(row["aliases"])}) for row in _rows(file)]


def store(chosen: Iterable[Concept], file: Path) -> None:
    """Write `chosen` as JSON."""
    file.write_text(json.dumps([asdict(concept) for concept in chosen], indent=0))


def _rows(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return rows


def _concept(entry: dict[str, Any], subgroups: dict[int, str], aliases: dict[str, list[str]]) -> Concept:
    label = entry["label"]
    return Concept(
        label=label,
        tags=tuple(entry.get("tags", ())),
        aliases=tuple(aliases.get(label, ())),
        group=entry["group"],
        subgroup=subgroups.get(entry.get("subgroup"), ""),
        hexcode=entry["hexcode"].lower(),
    )


def _kept(concept: Concept) -> bool:
    if concept.group in (_COMPONENTS, _FLAGS) or re.search(r"o’clock|-thirty", concept.label):
        return False
    if concept.group == _SYMBOLS:
        return concept.subgroup == "geometric"
    return concept.group != _PEOPLE or _plain_person(concept)


def _plain_person(concept: Concept) -> bool:
    if concept.subgroup in ("family", "person-symbol", "person-gesture") or "facing right" in concept.label:
        return False
    return not re.match(r"(man|woman|men|women)( |:)", concept.label) and not re.search(r": .*hair", concept.label)


def main() -> None:
    """Choose the concepts of the recipe and write them to the data folder."""
    where = folders()
    chosen = choose(where.packages / "captions/package", current().data.breadth)
    store(chosen, where.data / "concepts.json")
    print(f"{len(chosen)} concepts", flush=True)


if __name__ == "__main__":
    main()
