"""Prompts as numbers: what the text encoder reads, in training as in use.

Each word becomes its place in the vocabulary and the hashes of its trigrams, so that a word never seen before still
says what it is spelt like. Source of the idea: Bojanowski et al., "Enriching Word Vectors with Subword Information"
(2017), https://arxiv.org/abs/1607.04606; the hash is FNV-1a.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WORDS = 10
"""Words of a prompt that are read; those behind are not."""
PIECES = 8
"""Numbers for a word: its place in the vocabulary, and up to seven trigrams."""
TRIGRAMS = 2048

STYLES = ("3d", "flat", "noto", "blob")
"""The words that can name a style; a prompt without one gets the first that was learnt."""

_SMALL_WORDS = """
create draw drawing emoji generate give icon image make paint painting photo picture please render rendering
show showing shows sign a about above across after again all also am among an and any anybody anyone anything
are as at away be because been before behind being below beneath beside between both but button by can could did
does doing each either else ever every everything few for from get go got had has have having he her here hers
him his how i if in into is it its just kind let like look looking looks lot many may maybe me might more most
much must my need neither none nor nothing now of off on once only onto or other others ought our ours own
perhaps put quite rather really said seen she should since so some someone something somewhere sort still such
than that the their them then there these they thing things this those though through to too toward until upon
us use very want was we well were what when where which while who whom whose why will with within without would
yet you your yours
"""
"""What pictures are asked for with, and small words of English but for those in names ("thumbs up", "no entry")."""
_SILENT = frozenset(_SMALL_WORDS.split())
_ENOUGH_ALIKE = 0.65
"""The least share of common trigrams (Dice's measure) at which an unknown word is taken for a known one."""
_LEAST_GUESSED = 5
"""Letters; shorter words are alike by accident."""
_MOST_GUESSES = 20
"""Unknown words of one prompt that are compared with the vocabulary; each takes some milliseconds."""
_HASH_START, _HASH_PRIME = 2166136261, 16777619


def split(text: str) -> list[str]:
    """The words of `text` that carry meaning: lower case, without accents, apostrophes and small words."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "").replace("'", ""))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return [word for word in re.findall(r"[a-z0-9]+", letters) if word not in _SILENT]


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt as it is read: `ids` is (WORDS, PIECES).

    `unknown` words were never learnt: each is read as the known word spelt most alike, or passed over if none is.
    `unread` ones stand behind the last that fits.
    """

    ids: NDArray[np.int64]
    unknown: tuple[str, ...]
    unread: tuple[str, ...]


class Vocabulary:
    """The words that were learnt, in their order."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._places = {word: place for place, word in enumerate(words, 1)}
        self._trigrams_from = len(self.words) + 1

    @classmethod
    def load(cls, file: Path) -> "Vocabulary":
        """From a text file with one word a line."""
        return cls(file.read_text(encoding="utf-8").split())

    @property
    def size(self) -> int:
        """How many numbers there are, 0 for "nothing" among them."""
        return self._trigrams_from + TRIGRAMS

    def known(self, word: str) -> bool:
        """Whether `word`, or its singular, was learnt."""
        return self._place(word) > 0

    def read(self, prompt: str) -> Reading:
        """Read a prompt, with a style added where none is named; where no word is known, the spelling is read."""
        words = split(prompt)
        learnt = [style for style in STYLES if style in self._places]
        styles = [word for word in words if word in learnt][:1] or learnt[:1]
        subject = [word for word in words if word not in learnt]
        unknown = list(dict.fromkeys(word for word in subject if not self.known(word)))
        alike = {word: self._alike(word) for word in unknown[:_MOST_GUESSES]}
        meant = [word if self.known(word) else alike.get(word) for word in subject]
        sure = [word for word in meant if word is not None] or subject
        room = WORDS - 1
        return Reading(self.encode([*sure[:room], *styles]), tuple(unknown), tuple(dict.fromkeys(sure[room:])))

    def encode(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The first `WORDS` words as (WORDS, PIECES), zero where there is nothing."""
        made = np.zeros((WORDS, PIECES), np.int64)
        for row, word in enumerate(words[:WORDS]):
            pieces = self.pieces(word)
            made[row, : len(pieces)] = pieces
        return made

    def pieces(self, word: str) -> list[int]:
        """The numbers of one word, its place in the vocabulary first."""
        places = [self._trigrams_from + _hash(piece) for piece in _spelling(word)]
        return [self._place(word), *places[: PIECES - 1]]

    def _alike(self, word: str) -> str | None:
        """The known word that shares most trigrams with `word`, if it shares enough."""
        if len(word) < _LEAST_GUESSED:
            return None
        own = _trigrams(word)

        def likeness(other: str) -> float:
            theirs = _trigrams(other)
            return 2 * len(own & theirs) / (len(own) + len(theirs))

        best = max((other for other in self.words if other[0] == word[0]), key=likeness, default="")
        return best if best and likeness(best) >= _ENOUGH_ALIKE else None

    def _place(self, word: str) -> int:
        for form in (word, word.removesuffix("s"), word.removesuffix("es")):
            if form in self._places:
                return self._places[form]
        return 0


def _spelling(word: str) -> list[str]:
    edged = f"<{word}>"
    return [edged[start : start + 3] for start in range(len(edged) - 2)]


def _trigrams(word: str) -> frozenset[str]:
    return frozenset(_spelling(word))


def _hash(trigram: str) -> int:
    value = _HASH_START
    for byte in trigram.encode():
        value = ((value ^ byte) * _HASH_PRIME) & 0xFFFFFFFF
    return value % TRIGRAMS
