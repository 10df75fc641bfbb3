"""Every picture as 128 × 128 premultiplied RGBA, centred by its bounding box."""

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from sprout_training import concepts
from sprout_training.concepts import Concept
from sprout_training.folders import folders
from sprout_training.recipe import MARGIN, SIDE, Style, current

_SETS = {"flat": "flat", "noto": "noto", "blob": "blob"}


class Drawer:
    """Finds a concept's picture in one style; `draw` gives None where the set has none."""

    def __init__(self, packages: Path, style: Style) -> None:
        self._folder = packages / style / "package"
        self._icons: dict[str, Any] = {}
        if style in _SETS:
            self._icons = json.loads((self._folder / "icons.json").read_text())

    def draw(self, concept: Concept) -> Image.Image | None:
        """RGBA, at least as large as `SIDE`."""
        return self._vector(concept) if self._icons else self._bitmap(concept)

    def _bitmap(self, concept: Concept) -> Image.Image | None:
        code = concept.hexcode
        for name in (code, code.replace("-fe0f", ""), f"{code}-fe0f"):
            file = self._folder / f"assets/{name}.webp"
            if file.exists():
                return Image.open(file).convert("RGBA")
        return None

    def _vector(self, concept: Concept) -> Image.Image | None:
        icons, name = self._icons, _slug(concept.label)
        name = icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = icons["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        drawing = f'<svg {space} viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'
        drawn = resvg_py.svg_to_bytes(svg_string=drawing, width=2 * SIDE, height=2 * SIDE)
        return Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")


def settle(picture: Image.Image) -> NDArray[np.uint8] | None:
    """Crop to what is visible, centre in a square and scale to `SIDE`: uint8 (SIDE, SIDE, 4), premultiplied.

    None when next to nothing is visible.
    """
    values = np.asarray(picture).astype(np.float32) / 255
    values[..., :3] *= values[..., 3:]
    rows, columns = np.where(values[..., 3] > 0.05)
    if len(rows) < 20:
        return None
    seen = values[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = seen.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 4), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = seen
    inner = SIDE - 2 * MARGIN
    planes = [
        np.asarray(Image.fromarray(square[..., channel]).resize((inner, inner), Image.Resampling.LANCZOS))
        for channel in range(4)
    ]
    made = np.zeros((SIDE, SIDE, 4), np.float32)
    made[MARGIN:-MARGIN, MARGIN:-MARGIN] = np.stack(planes, -1).clip(0, 1)
    made[..., :3] = np.minimum(made[..., :3], made[..., 3:])
    return np.rint(made * 255).astype(np.uint8)


def _slug(label: str) -> str:
    plain = re.sub(r"[’'“”\".,!():]", "", label.lower().replace("&", "and"))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def main() -> None:
    """Render all concepts in the recipe's styles: ``pictures.npy`` and ``pictures.json`` (concept, style)."""
    where = folders()
    chosen = concepts.load(where.data / "concepts.json")
    drawers = {style: Drawer(where.packages, style) for style in current().data.styles}
    pictures: list[NDArray[np.uint8]] = []
    rows: list[tuple[int, str]] = []
    for number, concept in enumerate(chosen):
        for style, drawer in drawers.items():
            drawn = drawer.draw(concept)
            settled = None if drawn is None else settle(drawn)
            if settled is not None:
                pictures.append(settled)
                rows.append((number, style))
    unfinished = where.data / "unfinished.npy"
    np.save(unfinished, np.stack(pictures))
    # A training that still reads the old file keeps it.
    unfinished.replace(where.data / "pictures.npy")
    (where.data / "pictures.json").write_text(json.dumps(rows))
    print(f"{len(rows)} pictures: {dict(Counter(style for _, style in rows))}", flush=True)


if __name__ == "__main__":
    main()
