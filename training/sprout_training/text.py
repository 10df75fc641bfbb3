"""The text encoder: words as vectors, read together by one transformer layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluicegate.backends.local_image.sprout.words import WORDS

WIDTH = 192
"""Of a word's vector."""
POOLED = 256
"""Of the vector for the whole prompt."""
HEADS = 4
HIDDEN = -1e4
"""Added to the score of a place where there is no word."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention, written out: on the CPU its gradient is faster than that of the fused kernel."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2) + bias
    return torch.softmax(scores, -1).to(values.dtype) @ values


class Block(nn.Module):
    """One transformer layer, normalised before each part."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH)
        self.before_inner = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.join = nn.Linear(WIDTH, WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, words: Tensor, bias: Tensor) -> Tensor:
        rows, length, _ = words.shape
        projected = self.project(self.before_attention(words)).view(rows, length, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        seen = attend(queries, keys, values, bias).transpose(1, 2).reshape(rows, length, WIDTH)
        words = words + self.join(seen)
        made: Tensor = words + self.inner(self.before_inner(words))
        return made


class TextEncoder(nn.Module):
    """Numbers (n, WORDS, PIECES) to vectors (n, WORDS + 1, WIDTH), their bias (n, 1, 1, WORDS + 1), pooled (n, POOLED).

    The first vector stands for the prompt as a whole, and is all there is of an empty one.
    """

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary_size, WIDTH, padding_idx=0)
        nn.init.normal_(self.vectors.weight, std=0.5)
        self.vectors.weight.data[0] = 0
        self.places = nn.Parameter(torch.randn(WORDS, WIDTH) * 0.05)
        self.whole = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.1)
        self.block = Block()
        self.norm = nn.LayerNorm(WIDTH)
        self.pool = nn.Linear(2 * WIDTH, POOLED)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        present = ids > 0
        words = self.vectors(ids).sum(2) / present.sum(2, keepdim=True).clamp(min=1).sqrt() + self.places
        words = torch.cat([self.whole.expand(ids.shape[0], -1, -1), words], 1)
        seen = functional.pad(present.any(2), (1, 0), value=True)
        bias = (~seen).to(words.dtype)[:, None, None, :] * HIDDEN
        words = self.norm(self.block(words, bias))
        weights = seen[..., None].to(words.dtype)
        mean = (words * weights).sum(1) / weights.sum(1)
        return words, bias, self.pool(torch.cat([words[:, 0], mean], 1))
