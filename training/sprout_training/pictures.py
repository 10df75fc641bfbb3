"""Premultiplied RGBA between arrays, tensors and the eye."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def as_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, height, width, 4) to float (n, 4, height, width), 0 to 1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


def on_white(pictures: Tensor) -> NDArray[np.uint8]:
    """Float premultiplied (n, 4, height, width) to uint8 (n, height, width, 3) on white."""
    clipped = pictures.float().clamp(0, 1)
    shown = (clipped[:, :3] + (1 - clipped[:, 3:])).clamp(0, 1)
    made: NDArray[np.uint8] = (shown * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return made


def sheet(pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], columns: int, file: Path) -> None:
    """Save uint8 (height, width, 3) pictures of one size in rows of `columns`."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        canvas[top : top + height, left : left + width] = picture
    Image.fromarray(canvas).save(file, optimize=True)
