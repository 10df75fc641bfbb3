"""The figures of the model card and the contact sheet, measured on the weights and the code that the package ships.

Usage: ``python -m sprout_training.evaluate FOLDER``; ``sprout.json`` and ``sprout.png`` are written there.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.backends.local_image.sprout.model import Sprout
from sluicegate.backends.local_image.sprout.words import split
from sprout_training import concepts as concept_list
from sprout_training import features
from sprout_training.captions import HELD_PAIRS, Captions
from sprout_training.colours import main_colour
from sprout_training.folders import Folders, folders
from sprout_training.pictures import as_tensor, on_white, sheet
from sprout_training.prompts import CONTACT_SHEET, held_out
from sprout_training.recipe import EvaluationRecipe, current
from sprout_training.schedule import use_threads

BATCH = 8
COLOUR_SEEDS = 4
_DRAW_ALONE = """
import re
from pathlib import Path
from sluicegate.backends.local_image.sprout.model import Sprout
model = Sprout(threads=2)
for count in (1, 4):
    model.draw(["red apple"] * count, list(range(count)))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


class Judge:
    """Says which concepts a picture is most like."""

    def __init__(self, where: Folders) -> None:
        self._model = features.load(where)
        gallery = features.Gallery(where)
        everything = torch.cat([gallery.plain, gallery.copies.flatten(0, 1)])
        self._features = features.describe(self._model, everything.float() / 255)
        copies = gallery.copies.shape[1]
        self._concepts = torch.cat([gallery.concepts, gallery.concepts.repeat_interleave(copies)])

    def rank(self, pictures: Tensor) -> list[list[int]]:
        """For each premultiplied picture (n, 4, 128, 128) the five nearest concepts, best first."""
        likeness = features.describe(self._model, features.small_on_white(pictures)) @ self._features.T
        best = torch.full((len(pictures), int(self._concepts.max()) + 1), -1.0)
        best.scatter_reduce_(1, self._concepts.expand(len(pictures), -1), likeness, "amax")
        ranked: list[list[int]] = best.topk(5, 1).indices.tolist()
        return ranked


def premultiplied(pictures: NDArray[np.uint8]) -> Tensor:
    """RGBA as the package makes it to premultiplied floats (n, 4, 128, 128)."""
    values = as_tensor(pictures)
    return torch.cat([values[:, :3] * values[:, 3:], values[:, 3:]], 1)


def draw(model: Sprout, prompts: Sequence[str], seeds: Sequence[int], recipe: EvaluationRecipe) -> NDArray[np.uint8]:
    """All prompts, a few at a time: uint8 (n, 128, 128, 4)."""
    parts = [
        model.draw(
            prompts[start : start + BATCH],
            seeds[start : start + BATCH],
            steps=recipe.steps,
            guidance=recipe.guidance,
            preview_every=recipe.steps,
        ).pictures
        for start in range(0, len(prompts), BATCH)
    ]
    return np.concatenate(parts)


def measure_concepts(model: Sprout, judge: Judge, where: Folders, recipe: EvaluationRecipe) -> dict[str, Any]:
    """How often the nearest training concept, or one of the five nearest, is the prompted one."""
    known = concept_list.load(where.data / "concepts.json")
    captions = Captions(known)
    generator = np.random.default_rng(recipe.seed)
    trained = sorted({concept for concept, _ in json.loads((where.data / "pictures.json").read_text())})
    asked = [int(number) for number in generator.choice(trained, recipe.concepts, replace=False)]
    wanted = [concept for concept in asked for _ in range(recipe.seeds_each)]
    prompts = [
        held_out(captions, known, concept, variant % recipe.seeds_each, generator)
        for variant, concept in enumerate(wanted)
    ]
    pictures = draw(model, prompts, [1000 + place for place in range(len(prompts))], recipe)
    ranks = judge.rank(premultiplied(pictures))
    first = [ranked[0] == concept for ranked, concept in zip(ranks, wanted, strict=True)]
    top5 = [concept in ranked for ranked, concept in zip(ranks, wanted, strict=True)]
    ways = Counter(place % recipe.seeds_each for place, right in enumerate(first) if right)
    missed = [
        {"prompt": prompt, "wanted": known[concept].label, "nearest": known[ranked[0]].label}
        for prompt, concept, ranked, right in zip(prompts, wanted, ranks, top5, strict=True)
        if not right
    ]
    sheet(on_white(premultiplied(pictures)[::4]), 10, where.sheets / "evaluated.png")
    return {
        "pictures": len(prompts),
        "top1": sum(first) / len(first),
        "top5": sum(top5) / len(top5),
        "top1_by_phrasing": [ways[way] / recipe.concepts for way in range(recipe.seeds_each)],
        "missed": missed,
    }


def measure_colours(model: Sprout, where: Folders, recipe: EvaluationRecipe) -> dict[str, Any]:
    """How often the main colour is the prompted one, for objects never trained in that colour; and without the word."""
    pairs = HELD_PAIRS[: recipe.colour_pairs]
    wanted = [pair for pair in pairs for _ in range(COLOUR_SEEDS)]
    seeds = list(range(2000, 2000 + len(wanted)))
    coloured = draw(model, [f"{colour} {thing}" for thing, colour in wanted], seeds, recipe)
    plain = draw(model, [thing for thing, _ in wanted], seeds, recipe)
    seen = [main_colour(picture) for picture in _premultiplied_bytes(coloured)]
    natural = [main_colour(picture) for picture in _premultiplied_bytes(plain)]
    right = [colour == found for (_, colour), found in zip(wanted, seen, strict=True)]
    by_pair = {
        f"{colour} {thing}": sum(right[place * COLOUR_SEEDS : (place + 1) * COLOUR_SEEDS]) / COLOUR_SEEDS
        for place, (thing, colour) in enumerate(pairs)
    }
    sheet(on_white(premultiplied(coloured)[::COLOUR_SEEDS]), 10, where.sheets / "coloured.png")
    return {
        "pairs": len(pairs),
        "pictures": len(wanted),
        "right": sum(right) / len(right),
        "pairs_mostly_right": sum(share > 0.5 for share in by_pair.values()) / len(by_pair),
        "right_without_the_word": float(
            np.mean([colour == found for (_, colour), found in zip(wanted, natural, strict=True)])
        ),
        "by_pair": by_pair,
    }


def measure_speed(model: Sprout, recipe: EvaluationRecipe) -> dict[str, float]:
    """Seconds for one picture and for four at once, the median of five."""
    spent: dict[str, float] = {}
    for count in (1, 4):
        times = []
        for seed in range(5):
            began = time.perf_counter()
            model.draw(["red apple"] * count, list(range(seed, seed + count)), steps=recipe.steps)
            times.append(time.perf_counter() - began)
        spent[f"seconds_for_{count}"] = sorted(times)[2]
    return spent


def measure_memory() -> float:
    """The most memory, in MB, of a process that draws one picture and then four at once, and nothing else. Linux."""
    done = subprocess.run([sys.executable, "-c", _DRAW_ALONE], check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def draw_contact_sheet(model: Sprout, recipe: EvaluationRecipe, file: Path) -> None:
    """One picture for each prompt of the contact sheet, all with seed 7."""
    pictures = draw(model, CONTACT_SHEET, [7] * len(CONTACT_SHEET), recipe)
    sheet(on_white(premultiplied(pictures)), 8, file)


def _premultiplied_bytes(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (premultiplied(pictures).permute(0, 2, 3, 1) * 255).round().byte().numpy()


def main() -> None:
    """Measure everything and print it."""
    use_threads()
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    where, recipe = folders(), current().evaluation
    model = Sprout(threads=2)
    unknown = {word for prompt in CONTACT_SHEET for word in split(prompt) if not model.vocabulary.known(word)}
    figures: dict[str, Any] = {
        "speed": measure_speed(model, recipe),
        "megabytes": measure_memory(),
        "unknown_on_the_sheet": sorted(unknown),
    }
    draw_contact_sheet(model, recipe, target / "sprout.png")
    figures["colours"] = measure_colours(model, where, recipe)
    print(json.dumps(figures, indent=1), flush=True)
    figures["concepts"] = measure_concepts(model, Judge(where), where, recipe)
    print(json.dumps(figures["concepts"], indent=1), flush=True)
    (target / "sprout.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
