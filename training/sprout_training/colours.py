"""Colours by name: which one a picture has, and the same picture in another one.

All in OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020,
https://bottosson.github.io/posts/oklab/), on premultiplied RGBA. Hues are in radians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_TO_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]], np.float32)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]], np.float32)  # fmt: skip
_FROM_CONES = np.linalg.inv(_TO_CONES)
_FROM_LAB = np.linalg.inv(_TO_LAB)

_GREY_CHROMA = 0.04
"""Below, a colour has no hue to speak of."""
_HUE_BINS = 36


@dataclass(frozen=True, slots=True)
class Named:
    """A colour's OKLab lightness (0 to 1), chroma, and hue in degrees."""

    lightness: float
    chroma: float
    hue: float


COLOURS = {
    "red": Named(0.62, 0.21, 27),
    "orange": Named(0.74, 0.17, 58),
    "yellow": Named(0.88, 0.17, 95),
    "green": Named(0.70, 0.18, 145),
    "cyan": Named(0.80, 0.11, 205),
    "blue": Named(0.58, 0.18, 258),
    "purple": Named(0.55, 0.20, 305),
    "pink": Named(0.78, 0.14, 355),
    "brown": Named(0.48, 0.08, 55),
    "black": Named(0.30, 0, 0),
    "white": Named(0.95, 0, 0),
    "gray": Named(0.65, 0, 0),
}
CHROMATIC = tuple(name for name, colour in COLOURS.items() if colour.chroma > 0)


@dataclass(frozen=True, slots=True)
class Analysis:
    """A picture's OKLab planes, float (height, width), and what dominates them."""

    lightness: Floats
    chroma: Floats
    hue: Floats
    alpha: Floats
    main_hue: float | None
    """None for a picture without any colour."""
    concentration: float
    """The share of all chroma that lies near the main hue."""
    coloured: float
    """The share of what is visible that has a hue."""

    def near_main(self, radians: float) -> NDArray[np.bool_]:
        """Where the picture is opaque and of its main hue."""
        assert self.main_hue is not None
        apart = np.abs(_turn(self.hue - self.main_hue))
        mask: NDArray[np.bool_] = (self.alpha > 0.5) & (self.chroma > _GREY_CHROMA) & (apart < radians)
        return mask


def analyse(picture: Bytes) -> Analysis:
    """Look at a uint8 (height, width, 4) premultiplied picture."""
    values = picture.astype(np.float32) / 255
    alpha = values[..., 3]
    lab = _to_lab((values[..., :3] / np.maximum(alpha, 1e-3)[..., None]).clip(0, 1))
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.arctan2(lab[..., 2], lab[..., 1])
    weights = alpha * chroma * (chroma > _GREY_CHROMA)
    main, concentration, coloured = None, 0.0, 0.0
    if weights.sum() > 1e-6:
        histogram, _ = np.histogram(hue, _HUE_BINS, (-np.pi, np.pi), weights=weights)
        smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
        main = float(-np.pi + (smooth.argmax() + 0.5) * 2 * np.pi / _HUE_BINS)
        concentration = float(smooth.max() / histogram.sum())
        coloured = float((alpha * (chroma > _GREY_CHROMA)).sum() / alpha.sum())
    return Analysis(lab[..., 0], chroma, hue, alpha, main, concentration, coloured)


def name_of(picture: Bytes) -> str | None:
    """The name of the colour that dominates `picture`; None when several do."""
    seen = analyse(picture)
    if seen.alpha.sum() < 1:
        return None
    if seen.coloured < 0.2 or seen.main_hue is None:
        lightness = float((seen.lightness * seen.alpha).sum() / seen.alpha.sum())
        return "black" if lightness < 0.4 else "white" if lightness > 0.85 else "gray"
    if seen.concentration < 0.6 or seen.coloured < 0.5:
        return None
    nearest, distance = _nearest(seen, seen.main_hue)
    return nearest if distance < 2 else None


def main_colour(picture: Bytes) -> str | None:
    """The chromatic colour nearest to the most widespread hue, however much else there is; None without any hue."""
    seen = analyse(picture)
    return None if seen.main_hue is None else _nearest(seen, seen.main_hue)[0]


def recolour(picture: Bytes, name: str) -> Bytes:
    """`picture` with its dominant colour moved to the colour `name`; other hues follow, highlights stay."""
    seen, colour = analyse(picture), COLOURS[name]
    if seen.main_hue is None or seen.coloured < 0.25:
        lightness, chroma, hue = _tinted(seen, colour)
    else:
        lightness, chroma, hue = _moved(seen, seen.main_hue, colour)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1)
    rgb = _to_rgb(lab).clip(0, 1) * seen.alpha[..., None]
    return np.rint(np.concatenate([rgb, seen.alpha[..., None]], -1) * 255).astype(np.uint8)


def _tinted(seen: Analysis, colour: Named) -> tuple[Floats, Floats, Floats]:
    """A grey thing takes the hue everywhere, least where it is darkest and brightest."""
    mean = (seen.lightness * seen.alpha).sum() / max(seen.alpha.sum(), 1e-6)
    middle = 1 - np.abs(2 * seen.lightness - 1) ** 2
    lightness = (seen.lightness + 0.7 * (colour.lightness - mean) * middle).clip(0, 1)
    chroma = colour.chroma * 0.8 * np.minimum(1, 4 * lightness * (1 - lightness) + 0.15)
    return lightness, chroma.astype(np.float32), np.full_like(chroma, np.radians(colour.hue))


def _moved(seen: Analysis, main_hue: float, colour: Named) -> tuple[Floats, Floats, Floats]:
    mask = seen.near_main(0.5)
    if mask.sum() <= 30:
        mask = seen.alpha > 0.5
    mean_lightness, mean_chroma = seen.lightness[mask].mean(), seen.chroma[mask].mean()
    saturation = np.clip(seen.chroma / 0.08, 0, 1)
    lightness = (seen.lightness + 0.8 * (colour.lightness - mean_lightness) * saturation).clip(0, 1)
    factor = (colour.chroma / max(mean_chroma, _GREY_CHROMA)) ** 0.8 if colour.chroma > 0 else 0.03
    chroma = np.minimum(seen.chroma * factor, 0.28)
    hue = np.radians(colour.hue) + 0.2 * _turn(seen.hue - main_hue)
    return lightness, chroma, hue


def _nearest(seen: Analysis, main_hue: float) -> tuple[str, float]:
    mask = seen.near_main(0.35)
    lightness, chroma = float(seen.lightness[mask].mean()), float(seen.chroma[mask].mean())
    distances = {name: _distance(COLOURS[name], lightness, chroma, main_hue) for name in CHROMATIC}
    nearest = min(distances, key=lambda name: distances[name])
    return nearest, distances[nearest]


def _distance(colour: Named, lightness: float, chroma: float, hue: float) -> float:
    turned = abs((np.degrees(hue) - colour.hue + 180) % 360 - 180) / 25
    return float(turned + 0.5 * abs(colour.lightness - lightness) / 0.12 + 0.5 * abs(colour.chroma - chroma) / 0.1)


def _turn(angle: Floats) -> Floats:
    """The same angle between -π and π."""
    turned: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return turned


def _to_lab(rgb: Floats) -> Floats:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab: Floats = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab


def _to_rgb(lab: Floats) -> Floats:
    linear = (((lab @ _FROM_LAB.T) ** 3) @ _FROM_CONES.T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
