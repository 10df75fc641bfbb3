"""Every number of the training, in one place."""

import os
from dataclasses import dataclass, field
from typing import Literal

Style = Literal["3d", "flat", "noto", "blob"]
Breadth = Literal["everyday", "all"]

SIDE = 128
"""Pixels of a picture's side."""
MARGIN = 5
"""Empty pixels on each side of a picture."""
LATENT_CHANNELS = 6
LATENT_SIDE = 16


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Which pictures there are."""

    breadth: Breadth = "everyday"
    """``everyday``: common things without near duplicates. ``all``: every concept that is not a flag or a sign."""
    styles: tuple[Style, ...] = ("3d",)
    recoloured_copies: int = 5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class AutoencoderRecipe:
    """How the autoencoder is trained. Noise on the normalised latent takes the place of a penalty on it."""

    batch: int = 16
    learning_rate: float = 2e-3
    latent_noise: float = 0.12
    minutes: float = 9.0
    decoder_minutes: float = 5.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FlowRecipe:
    """How the flow is trained."""

    workers: int = 2
    """Processes on a CPU, of one thread each."""
    batch: int = 48
    """Of each process."""
    learning_rate: float = 1.6e-3
    constant_share: float = 0.3
    """The share of training before the learning rate falls along a cosine."""
    ema: float = 0.997
    weight_decay: float = 0.01
    clip: float = 1.0
    time_shift: float = 0.5
    """Times are drawn as sigmoid(normal(time_shift, 1)), one in ten uniformly."""
    recoloured_share: float = 0.25
    minutes: float = 48.0
    checkpoint_minutes: float = 4.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EvaluationRecipe:
    """What is measured, on captions that training never uses."""

    concepts: int = 100
    seeds_each: int = 4
    colour_pairs: int = 30
    steps: int = 20
    guidance: float = 3.0
    seed: int = 42
    judge_samples: int = 60_000
    """Pictures that the judge learns from."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run."""

    data: DataRecipe = field(default_factory=DataRecipe)
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    flow: FlowRecipe = field(default_factory=FlowRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)


EVERYDAY = Recipe()
"""About an hour and a quarter on two CPU cores."""
FULL = Recipe(
    data=DataRecipe(breadth="all", styles=("3d", "flat", "noto", "blob")),
    autoencoder=AutoencoderRecipe(minutes=30.0, decoder_minutes=15.0),
    flow=FlowRecipe(minutes=480.0),
)
"""A night on the CPU, or half an hour on a large GPU."""
TRIAL = Recipe(
    autoencoder=AutoencoderRecipe(minutes=0.3, decoder_minutes=0.2),
    flow=FlowRecipe(minutes=0.5, checkpoint_minutes=0.2),
    evaluation=EvaluationRecipe(concepts=4, colour_pairs=2, judge_samples=1_000),
)
"""A few minutes, to see that every stage works; what it makes is of no use."""
RECIPES = {"everyday": EVERYDAY, "full": FULL, "trial": TRIAL}


def current() -> Recipe:
    """The recipe that ``$SPROUT_RECIPE`` names, `EVERYDAY` when it names none."""
    name = os.environ.get("SPROUT_RECIPE", "everyday")
    if name not in RECIPES:
        raise SystemExit(f'SPROUT_RECIPE: no recipe "{name}"; there are {", ".join(RECIPES)}')
    return RECIPES[name]
