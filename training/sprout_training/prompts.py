"""What the evaluation asks for. None of it is a caption that training draws."""

from collections.abc import Sequence

import numpy as np

from sprout_training.captions import HELD_FILLERS, Captions
from sprout_training.concepts import Concept

CONTACT_SHEET = (
    "a cute red apple", "a banana", "a bunch of grapes", "strawberry", "slice of pizza", "hamburger with cheese",
    "an ice cream cone", "chocolate donut",
    "a dog", "a smiling cat", "panda bear", "an elephant", "a green frog", "butterfly", "penguin", "octopus",
    "a red rose", "sunflower", "cactus", "a pine tree", "palm tree", "mushroom", "four leaf clover", "maple leaf",
    "a red car", "bicycle", "school bus", "rocket to the moon", "sailboat", "airplane", "steam train", "fire truck",
    "a house", "castle", "the sun", "rainbow", "snowman", "beach umbrella", "fire", "lightning bolt",
    "soccer ball", "acoustic guitar", "a golden crown", "a birthday cake", "cup of coffee", "robot face", "ghost",
    "blue cat",
)  # fmt: skip
"""For the eye: eight a row."""


SENTENCES = (
    "I would love to have an image of {article} {first} {name}, thanks",
    "my kids want {article} {first} {name} that looks {second}",
    "let us see what {article} {name} would be like on {article} {first} day",
    "quickly sketch the {first}, {second} {name} for our website",
)


def held_out(
    captions: Captions, concepts: Sequence[Concept], concept: int, variant: int, generator: np.random.Generator
) -> str:
    """One of four ways to ask for `concept`: with words never heard as fillers, or with a tag never heard beside it."""
    names = captions.names[concept]
    first, second = (HELD_FILLERS[place] for place in generator.choice(len(HELD_FILLERS), 2, replace=False))
    name = concepts[concept].label
    tag = captions.held_tags[concept]
    match variant % 4:
        case 0:
            return f"{first} {name}"
        case 1:
            return f"{name} {' '.join(tag)}" if tag else f"{name}, {first}"
        case 2:
            sentence = SENTENCES[int(generator.integers(len(SENTENCES)))]
            return sentence.format(article="a", first=first, second=second, name=name)
        case _:
            return f"{' '.join(names[-1])} {second}"
