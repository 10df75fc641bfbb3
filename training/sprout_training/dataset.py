"""Batches for the flow: latents with captions."""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sluicegate.backends.local_image.sprout.words import PIECES, WORDS, Vocabulary
from sprout_training import concepts
from sprout_training.captions import Captions
from sprout_training.folders import Folders

EMPTY_SHARE = 0.12
"""Captions dropped whole, for classifier-free guidance."""
_HALF_HIDDEN = 0.3
"""Captions in which some words lose their place in the vocabulary, so that the trigrams learn; and how many words."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`latents` (n, 6, 16, 16) float; `ids` (n, WORDS, PIECES) integer."""

    latents: Tensor
    ids: Tensor


class Dataset:
    """The latents of the recipe's pictures in memory, on `device`, and their captions."""

    def __init__(self, where: Folders, device: torch.device, recoloured_share: float) -> None:
        self.concepts = concepts.load(where.data / "concepts.json")
        self.captions = Captions(self.concepts)
        self.rows: list[tuple[int, str]] = [
            (number, style) for number, style in json.loads((where.data / "pictures.json").read_text())
        ]
        self.vocabulary = Vocabulary(self.captions.vocabulary({style for _, style in self.rows}))
        colours = json.loads((where.data / "colours.json").read_text())
        self._own: list[str | None] = colours["own"]
        self._copies: list[list[str]] = colours["copies"]
        stored = torch.load(where.data / "latents.pt")
        self.plain = stored["plain"].float().to(device)
        self._recoloured = stored["recoloured"].float().to(device)
        self._recoloured_share = recoloured_share

    def draw(self, size: int, generator: np.random.Generator) -> Batch:
        """`size` pictures with replacement, each with a caption of its own."""
        latents: list[Tensor] = []
        ids = np.zeros((size, WORDS, PIECES), np.int64)
        for place, row in enumerate(generator.integers(len(self.rows), size=size)):
            concept, style = self.rows[row]
            copy = self._pick_copy(int(row), concept, generator)
            latents.append(self.plain[row] if copy is None else self._recoloured[row, copy])
            if generator.random() >= EMPTY_SHARE:
                colour = None if copy is None else self._copies[row][copy]
                words = self.captions.draw(concept, style, self._own[row], colour, generator)
                ids[place] = self._half_hidden(self.vocabulary.encode(words), generator)
        return Batch(torch.stack(latents), torch.from_numpy(ids).to(self.plain.device))

    def label_ids(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Name and style of pictures `rows`, for a loss that can be compared over time."""
        named = [[*self.captions.names[self.rows[row][0]][0], self.rows[row][1]] for row in rows]
        encoded = np.stack([self.vocabulary.encode(words) for words in named])
        return torch.from_numpy(encoded).to(self.plain.device)

    def _pick_copy(self, row: int, concept: int, generator: np.random.Generator) -> int | None:
        if generator.random() >= self._recoloured_share:
            return None
        copy = int(generator.integers(len(self._copies[row])))
        return None if self.captions.held_back(concept, self._copies[row][copy]) else copy

    def _half_hidden(
        self, ids: np.ndarray[tuple[int, int], np.dtype[np.int64]], generator: np.random.Generator
    ) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        if generator.random() < _HALF_HIDDEN:
            hidden = (generator.random(WORDS) < _HALF_HIDDEN) & (ids[:, 1] > 0)
            ids[hidden, 0] = 0
        return ids
