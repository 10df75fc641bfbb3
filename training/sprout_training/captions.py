"""What a picture may be called in training, and what is kept back for the evaluation."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sluicegate.backends.local_image.sprout.words import WORDS, split
from sprout_training.colours import COLOURS
from sprout_training.concepts import Concept

FILLERS = (
    "big", "small", "nice", "beautiful", "pretty", "simple", "one", "shiny", "lovely", "new", "old", "single", "very",
    "good", "clean", "detailed", "glossy", "modern", "background", "illustration", "style", "art", "object", "high",
    "quality", "cartoon", "little", "fresh", "colorful", "front", "view",
)  # fmt: skip
"""Words that say nothing about which thing is meant; training mixes them in so that the model learns to pass over."""
HELD_FILLERS = (
    "graceful", "impressive", "ordinary", "curious", "dainty", "enormous", "typical", "memorable", "striking", "quaint",
    "neat", "radiant",
)  # fmt: skip
"""Of the same kind, for the evaluation only. Training never sees them as fillers."""
HELD_PAIRS = (
    ("cat", "blue"), ("dog", "green"), ("pizza", "purple"), ("rocket", "green"), ("guitar", "blue"),
    ("house", "pink"), ("tree", "red"), ("fish", "purple"), ("car", "yellow"), ("banana", "blue"),
    ("star", "green"), ("umbrella", "red"), ("elephant", "pink"), ("apple", "blue"), ("t-shirt", "orange"),
    ("hat", "purple"), ("mushroom", "blue"), ("dragon", "red"), ("butterfly", "green"), ("bus", "pink"),
    ("strawberry", "yellow"), ("frog", "orange"), ("book", "purple"), ("shoe", "green"), ("balloon", "yellow"),
    ("bicycle", "orange"), ("crown", "blue"), ("robot", "red"), ("turtle", "purple"), ("cup", "green"),
)  # fmt: skip
"""Objects in colours that training never shows them in."""

_SPELLINGS = {"grey": "gray"}


class Captions:
    """Draws a caption for a concept; see `draw`."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.names = [[split(name) for name in (concept.label, *concept.aliases)] for concept in concepts]
        frequency = Counter(tag for concept in concepts for tag in set(concept.tags))
        self.tags: list[list[list[str]]] = []
        self.held_tags: list[list[str] | None] = []
        self._weights: list[NDArray[np.float64]] = []
        for concept, names in zip(concepts, self.names, strict=True):
            said = {word for name in names for word in name}
            fresh = [tag for tag in concept.tags if split(tag) and not said & set(split(tag))]
            rarest_last = sorted(fresh, key=lambda tag: (-frequency[tag], tag))
            held = rarest_last[len(rarest_last) // 2] if len(rarest_last) >= 3 else None
            self.tags.append([split(tag) for tag in concept.tags if split(tag)])
            self.held_tags.append(None if held is None else split(held))
            weights = np.array([frequency[tag] ** -1.5 for tag in concept.tags if split(tag)])
            self._weights.append(weights / weights.sum() if len(weights) else weights)

    def vocabulary(self, styles: Iterable[str]) -> list[str]:
        """Every word that a caption of pictures in `styles` can hold, in alphabetical order."""
        words = {*styles, *COLOURS, *FILLERS}
        for names, tags in zip(self.names, self.tags, strict=True):
            words.update(word for phrase in (*names, *tags) for word in phrase)
        return sorted(words)

    def held_back(self, concept: int, colour: str) -> bool:
        """Whether the evaluation asks for this concept in this colour."""
        said = {word for name in self.names[concept] for word in name}
        return any(colour == held and said.intersection(split(thing)) for thing, held in HELD_PAIRS)

    def draw(
        self, concept: int, style: str, own_colour: str | None, new_colour: str | None, generator: np.random.Generator
    ) -> list[str]:
        """Words for a picture: its name in 60 % of cases, else tags or both; then colour, fillers, style.

        `new_colour` is said always, for a recoloured copy; `own_colour`, the picture's own, now and then.
        """
        words = self._subject(concept, generator)
        if new_colour is not None:
            words = [new_colour, *(word for word in words if _SPELLINGS.get(word, word) not in COLOURS)]
        elif own_colour is not None and own_colour not in words and generator.random() < 0.25:
            words = [own_colour, *words]
        if generator.random() < 0.2:
            words = words[: WORDS - 3]
            for _ in range(1 + int(generator.random() < 0.4)):
                words.insert(int(generator.integers(len(words) + 1)), self._distraction(generator))
        if generator.random() < 0.1:
            words = [words[place] for place in generator.permutation(len(words))]
        if generator.random() < 0.75:
            words = words[: WORDS - 1]
            words = [*words, style] if generator.random() < 0.8 else [style, *words]
        return words

    def _distraction(self, generator: np.random.Generator) -> str:
        """A filler, or a word that belongs to another thing: a name should be stronger than either."""
        if generator.random() < 0.4:
            tags = self.tags[int(generator.integers(len(self.tags)))]
            word = tags[int(generator.integers(len(tags)))][0] if tags else ""
            if word and word not in COLOURS and word not in HELD_FILLERS:
                return word
        return FILLERS[int(generator.integers(len(FILLERS)))]

    def _subject(self, concept: int, generator: np.random.Generator) -> list[str]:
        tags, names = self.tags[concept], self.names[concept]
        name = names[int(generator.integers(len(names)))] if generator.random() < 0.5 else names[0]
        kind = generator.random()
        if kind < 0.65 or not tags:
            return list(name)
        tag = tags[int(generator.choice(len(tags), p=self._weights[concept]))]
        if kind < 0.77:
            return list(tag)
        if kind < 0.95:
            # The name with its held tag is for the evaluation.
            return list(name) if tag == self.held_tags[concept] else [*name, *tag]
        return [*tag, *tags[int(generator.choice(len(tags), p=self._weights[concept]))]]
