"""Copies of each picture in other colours, with the colours' names."""

import json

import numpy as np

from sprout_training.colours import CHROMATIC, COLOURS, name_of, recolour
from sprout_training.folders import folders
from sprout_training.recipe import SIDE, current

_LIKED = 1.5
_OTHERS = 0.8
_COMMON = frozenset(CHROMATIC) - {"cyan", "brown"}


def main() -> None:
    """Write ``recoloured.npy``, uint8 (pictures, copies, 128, 128, 4), and ``colours.json``: own and copies' names."""
    where, recipe = folders(), current().data
    pictures = np.load(where.data / "pictures.npy", mmap_mode="r")
    generator = np.random.default_rng(recipe.seed)
    copies = recipe.recoloured_copies
    shape = (len(pictures), copies, SIDE, SIDE, 4)
    made = np.lib.format.open_memmap(where.data / "recoloured.npy", mode="w+", dtype=np.uint8, shape=shape)
    own: list[str | None] = []
    others: list[list[str]] = []
    names = list(COLOURS)
    for index, picture in enumerate(pictures):
        own.append(name_of(picture))
        weights = np.array([_LIKED if name in _COMMON else _OTHERS for name in names])
        weights[[name == own[-1] for name in names]] = 0
        chosen = generator.choice(len(names), copies, replace=False, p=weights / weights.sum())
        others.append([names[number] for number in chosen])
        for copy, name in enumerate(others[-1]):
            made[index, copy] = recolour(picture, name)
        if index % 300 == 0:
            print(f"{index} of {len(pictures)} pictures", flush=True)
    made.flush()
    (where.data / "colours.json").write_text(json.dumps({"own": own, "copies": others}))


if __name__ == "__main__":
    main()
