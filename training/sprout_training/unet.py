"""The network of the flow: which way a noisy latent should move, given the time and the prompt."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sprout_training.recipe import LATENT_CHANNELS, LATENT_SIDE
from sprout_training.text import HEADS, POOLED, TextEncoder, attend
from sprout_training.text import WIDTH as TEXT_WIDTH

WIDTHS = (48, 96, 192)
"""Channels at 16 × 16, 8 × 8 and 4 × 4."""
FREQUENCIES = 64
_LAYOUT_FINE, _LAYOUT_MIDDLE = 8, 32
"""Channels of the maps that text and time draw directly at 16 × 16 and 8 × 8."""


class Residual(nn.Module):
    """Two convolutions beside a straight way, their middle scaled and shifted by the condition (FiLM)."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(8, inward)
        self.first = nn.Conv2d(inward, outward, 3, padding=1)
        self.condition = nn.Linear(POOLED, 2 * outward)
        self.second_norm = nn.GroupNorm(8, outward)
        self.second = nn.Conv2d(outward, outward, 3, padding=1)
        self.straight = nn.Conv2d(inward, outward, 1) if inward != outward else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, values: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, 1)
        inner = self.second_norm(self.first(functional.silu(self.first_norm(values)))) * (1 + scale) + shift
        made: Tensor = self.straight(values) + self.second(functional.silu(inner))
        return made


class Attention(nn.Module):
    """Each place looks at all places and all words at once."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.places = nn.Parameter(torch.zeros(side * side, width))
        self.queries = nn.Linear(width, width)
        self.from_places = nn.Linear(width, 2 * width)
        self.from_words = nn.Linear(TEXT_WIDTH, 2 * width)
        self.join = nn.Linear(width, width)
        nn.init.zeros_(self.join.weight)

    def forward(self, values: Tensor, words: Tensor, bias: Tensor) -> Tensor:
        rows, width, height, breadth = values.shape
        length = height * breadth
        flat = self.norm(values).flatten(2).transpose(1, 2) + self.places
        queries = self.queries(flat).view(rows, length, HEADS, -1).transpose(1, 2)
        both = torch.cat([self.from_places(flat), self.from_words(words)], 1)
        keys, contents = both.view(rows, -1, 2, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        padded = functional.pad(bias, (length, 0)).to(queries.dtype)
        seen = attend(queries, keys, contents, padded).transpose(1, 2).reshape(rows, length, width)
        made: Tensor = values + self.join(seen).transpose(1, 2).reshape(rows, width, height, breadth)
        return made


class Level(nn.Module):
    """Residual blocks at one resolution, an attention after the first where `side` is given."""

    def __init__(self, inward: tuple[int, ...], width: int, side: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(channels, width) for channels in inward)
        self.attention = None if side is None else Attention(width, side)


class UNet(nn.Module):
    """Velocity (n, 6, 16, 16) of a latent at time `times` (n,), 1 for noise and 0 for a picture.

    Text comes as `TextEncoder` gives it: the words' vectors, their bias, and the pooled vector.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        sides = (None, LATENT_SIDE // 2, LATENT_SIDE // 4)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, POOLED), nn.SiLU(), nn.Linear(POOLED, POOLED))
        self.inlet = nn.Conv2d(LATENT_CHANNELS, fine, 3, padding=1)
        self.down = nn.ModuleList(
            Level((inward,), width, side)
            for inward, width, side in zip((fine, fine, middle), WIDTHS, sides, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in (fine, middle))
        self.bottom_first = Residual(coarse, coarse)
        self.bottom_attention = Attention(coarse, LATENT_SIDE // 4)
        self.bottom_second = Residual(coarse, coarse)
        kept = ((coarse, middle), (middle, fine), (fine, fine))
        self.up = nn.ModuleList(
            Level((width + keeps[0], width + keeps[1]), width, side)
            for width, keeps, side in zip(WIDTHS[::-1], kept, sides[::-1], strict=True)
        )
        self.grow = nn.ModuleList(nn.Conv2d(above, below, 1) for above, below in pairwise(WIDTHS[::-1]))
        self.layout_fine = nn.Linear(POOLED, _LAYOUT_FINE * LATENT_SIDE**2)
        self.spread_fine = nn.Conv2d(_LAYOUT_FINE, fine, 1)
        self.layout_middle = nn.Linear(POOLED, _LAYOUT_MIDDLE * (LATENT_SIDE // 2) ** 2)
        self.spread_middle = nn.Conv2d(_LAYOUT_MIDDLE, fine, 1)
        self.layout_coarse = nn.Linear(POOLED, middle * (LATENT_SIDE // 4) ** 2)
        self.outlet_norm = nn.GroupNorm(8, fine)
        self.outlet = nn.Conv2d(fine, LATENT_CHANNELS, 3, padding=1)
        for silent in (self.spread_fine, self.spread_middle, self.layout_coarse, self.outlet):
            nn.init.zeros_(silent.weight)

    def forward(self, latents: Tensor, times: Tensor, words: Tensor, bias: Tensor, pooled: Tensor) -> Tensor:
        condition = functional.silu(self.time(waves(times)) + pooled)
        values = self.inlet(latents) + self._layout(self.layout_fine, condition, LATENT_SIDE, self.spread_fine)
        kept = [values]
        for depth, level in enumerate(self.down):
            values = self._through(level, values, condition, words, bias)
            kept.append(values)
            if depth < len(self.shrink):
                values = self.shrink[depth](values)
                values = values + self._coarser_layout(depth, condition)
                kept.append(values)
        values = self.bottom_first(values, condition)
        values = self.bottom_attention(values, words, bias)
        values = self.bottom_second(values, condition)
        for height, level in enumerate(self.up):
            values = self._through(level, values, condition, words, bias, kept=kept)
            if height < len(self.grow):
                values = functional.interpolate(self.grow[height](values), scale_factor=2.0, mode="nearest")
        made: Tensor = self.outlet(functional.silu(self.outlet_norm(values)))
        return made

    def _through(
        self,
        level: Level,
        values: Tensor,
        condition: Tensor,
        words: Tensor,
        bias: Tensor,
        *,
        kept: list[Tensor] | None = None,
    ) -> Tensor:
        for index, block in enumerate(level.blocks):
            values = block(values if kept is None else torch.cat([values, kept.pop()], 1), condition)
            if index == 0 and level.attention is not None:
                values = level.attention(values, words, bias)
        return values

    def _coarser_layout(self, depth: int, condition: Tensor) -> Tensor:
        if depth == 0:
            return self._layout(self.layout_middle, condition, LATENT_SIDE // 2, self.spread_middle)
        return self._layout(self.layout_coarse, condition, LATENT_SIDE // 4, None)

    def _layout(self, drawn: nn.Linear, condition: Tensor, side: int, spread: nn.Conv2d | None) -> Tensor:
        made: Tensor = drawn(condition).view(condition.shape[0], -1, side, side)
        return made if spread is None else spread(made)


class Sprout(nn.Module):
    """Text encoder and network, trained together."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.text = TextEncoder(vocabulary_size)
        self.unet = UNet()

    def forward(self, latents: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        words, bias, pooled = self.text(ids)
        made: Tensor = self.unet(latents, times, words, bias, pooled)
        return made


def waves(times: Tensor) -> Tensor:
    """Times (n,) as sines and cosines (n, 2 × FREQUENCIES)."""
    steps = torch.arange(FREQUENCIES, dtype=torch.float32, device=times.device)
    angles = times[:, None] * torch.exp(steps * (-math.log(1000) / (FREQUENCIES - 1))) * 100
    return torch.cat([angles.sin(), angles.cos()], 1)
