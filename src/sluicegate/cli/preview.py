"""A small preview of a picture in the terminal: two pixels for each character cell, as coloured half blocks."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sluicegate.cli.terminal import console, is_terminal

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.text import Text

WIDEST_CELLS = 64
_CHECKER = ((102, 102, 102), (153, 153, 153))
"""Shown through transparent parts, in squares of four pixels."""


def show_preview(path: Path) -> None:
    """Draw the picture on stdout when it is a terminal with colours; otherwise, or when that fails, do nothing."""
    if not is_terminal(sys.stdout):
        return
    screen = console()
    if screen.color_system in (None, "standard") or screen.no_color:
        return
    with suppress(OSError):
        screen.print(render(path, min(screen.width - 2, WIDEST_CELLS)))


def render(path: Path, cells: int) -> "Text":
    """The picture as text, at most `cells` wide and as high as its shape asks for."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    picture = _flatten(path, cells)
    text = Text()
    for top in range(0, picture.height - 1, 2):
        for column in range(picture.width):
            upper, lower = (Color.from_rgb(*_pixel(picture, column, row)) for row in (top, top + 1))
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    text.rstrip()
    return text


def _flatten(path: Path, cells: int) -> "Image":
    """The picture as RGB, scaled to the width in cells, with an even number of rows."""
    from PIL import Image

    with Image.open(path) as opened:
        opened.draft("RGB", (cells * 2, cells * 2))
        width = max(1, min(cells, opened.width))
        height = max(2, round(opened.height * width / opened.width))
        small = opened.convert("RGBA").resize((width, height + height % 2))
    ground = Image.new("RGBA", small.size)
    for row in range(small.height):
        for column in range(small.width):
            ground.putpixel((column, row), (*_CHECKER[(row // 4 + column // 4) % 2], 255))
    return Image.alpha_composite(ground, small).convert("RGB")


def _pixel(picture: "Image", column: int, row: int) -> tuple[int, int, int]:
    value = picture.getpixel((column, row))
    assert isinstance(value, tuple)
    return int(value[0]), int(value[1]), int(value[2])
