"""Sprout in use: pictures of 128 × 128 pixels with a transparent background, from words, with ONNX Runtime alone.

Four networks, in this order: ``text`` reads the prompts, ``encoder`` a given picture, ``step`` says which way noisy
latents move, ``decoder`` makes pictures of latents. Between them stands the loop: Euler's method along a rectified
flow (Liu et al., 2022, https://arxiv.org/abs/2209.03003) with classifier-free guidance (Ho and Salimans, 2022,
https://arxiv.org/abs/2207.12598), whose two halves are one batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sluicegate.backends.local_image.sprout.words import Reading, Vocabulary
from sluicegate.errors import BackendRefused

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE = 128
"""Pixels of a picture's side, both of those made and of those taken."""
LEAST_STEPS, USUAL_STEPS, MOST_STEPS = 4, 20, 50
USUAL_GUIDANCE = 3.0
MOST_GUIDANCE = 12.0
"""Above, colours burn out."""
MOST_PICTURES = 16

_LATENT = (6, 16, 16)
_FAINT = 0.04
"""Alpha below is the decoder's noise, and as far below 1 it is opaque."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the drawing is: `done` of `steps`. `preview`, now and then, is what the first picture will be as far as
    can be told: uint8 (128, 128, 4), RGBA."""

    done: int
    steps: int
    preview: Bytes | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """`pictures` is uint8 (n, 128, 128, 4), RGBA with straight alpha.

    `unknown` are the words, of all prompts, that were never learnt; `unread` those that were too many.
    """

    pictures: Bytes
    unknown: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """A picture to begin from: uint8 (128, 128, 4), RGBA. Of it, `strength` 0 keeps everything and 1 nothing."""

    image: Bytes
    strength: float


class Sprout:
    """The networks, loaded at once (11 MB). `draw` is for one thread at a time."""

    def __init__(self, threads: int) -> None:
        folder = Path(__file__).parent
        self.vocabulary = Vocabulary.load(folder / "vocabulary.txt")
        self._text, self._encoder, self._step, self._decoder = (
            _session(folder / f"{name}.onnx", threads) for name in ("text", "encoder", "step", "decoder")
        )

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompt: str = "",
        steps: int = USUAL_STEPS,
        guidance: float = USUAL_GUIDANCE,
        start: Start | None = None,
        on_step: Callable[[Step], None] = lambda _: None,
        preview_every: int = 4,
    ) -> Drawing:
        """Draw one picture for each prompt and seed, all in one pass; a picture depends on its own seed only.

        `on_step` is called after every step, with a preview every `preview_every` steps; what it raises ends the
        drawing. Raises `BackendRefused` for numbers out of range or a `start` of another size.
        """
        _check(prompts, seeds, steps, guidance, start)
        readings = [self.vocabulary.read(prompt) for prompt in prompts]
        unwanted = self.vocabulary.read(negative_prompt) if negative_prompt.strip() else None
        if start is not None and start.strength == 0:
            pictures = np.repeat(start.image[None], len(prompts), 0)
        else:
            text = self._read(readings, unwanted)
            latents = self._flow(
                text,
                _noise(seeds),
                steps=steps,
                guidance=guidance,
                start=start,
                on_step=on_step,
                preview_every=preview_every,
            )
            pictures = self._decode(latents)
        all_read = readings if unwanted is None else [*readings, unwanted]
        return Drawing(
            pictures,
            tuple(dict.fromkeys(word for reading in all_read for word in reading.unknown)),
            tuple(dict.fromkeys(word for reading in all_read for word in reading.unread)),
        )

    def _read(self, readings: Sequence[Reading], unwanted: Reading | None) -> dict[str, Floats]:
        """What `step` wants to know about the prompts, followed by as many times what is unwanted."""
        asked = np.stack([reading.ids for reading in readings])
        free = np.zeros_like(asked) if unwanted is None else np.repeat(unwanted.ids[None], len(asked), 0)
        words, bias, pooled = self._text.run(None, {"ids": np.concatenate([asked, free])})
        return {"words": words, "bias": bias, "pooled": pooled}

    def _flow(
        self,
        text: dict[str, Floats],
        noise: Floats,
        *,
        steps: int,
        guidance: float,
        start: Start | None,
        on_step: Callable[[Step], None],
        preview_every: int,
    ) -> Floats:
        latents, begin = noise, 1.0
        if start is not None and start.strength < 1:
            begin = start.strength
            latents = np.float32(1 - begin) * self._encode(start.image) + np.float32(begin) * noise
        times = np.linspace(begin, 0, steps + 1, dtype=np.float32)
        scale = np.array(guidance, np.float32)
        for index, (now, then) in enumerate(pairwise(times), 1):
            inputs = {"latents": latents, "time": np.array(now), "guidance": scale, **text}
            velocity: Floats = self._step.run(None, inputs)[0]
            latents = latents + (then - now) * velocity
            shown = index % preview_every == 0 or index == steps
            # From here straight on along the velocity: where the flow would end were it to turn no more.
            preview = self._decode(latents[:1] - then * velocity[:1])[0] if shown else None
            on_step(Step(index, steps, preview))
        return latents

    def _encode(self, image: Bytes) -> Floats:
        values = image.astype(np.float32) / np.float32(255)
        values[..., :3] *= values[..., 3:]
        latent: Floats = self._encoder.run(None, {"pictures": np.ascontiguousarray(values.transpose(2, 0, 1)[None])})[0]
        return latent

    def _decode(self, latents: Floats) -> Bytes:
        drawn: Floats = self._decoder.run(None, {"latents": np.ascontiguousarray(latents)})[0]
        values = drawn.transpose(0, 2, 3, 1)
        alpha = values[..., 3:]
        rgb = values[..., :3] / np.maximum(alpha, np.float32(_FAINT))
        opacity = (alpha - np.float32(_FAINT)) / np.float32(1 - 2 * _FAINT)
        straight = np.concatenate([rgb, opacity], -1).clip(0, 1)
        straight[straight[..., 3] == 0] = 0
        made: Bytes = np.rint(straight * 255).astype(np.uint8)
        return made


def _noise(seeds: Sequence[int]) -> Floats:
    return np.stack([np.random.default_rng(seed).standard_normal(_LATENT, np.float32) for seed in seeds])


def _check(prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float, start: Start | None) -> None:
    if not 1 <= len(prompts) <= MOST_PICTURES:
        raise BackendRefused(f"n: sprout draws 1 to {MOST_PICTURES} pictures at once, got {len(prompts)}; send fewer")
    if len(seeds) != len(prompts):
        raise BackendRefused(f"seed: {len(prompts)} prompts need as many seeds, got {len(seeds)}")
    if not LEAST_STEPS <= steps <= MOST_STEPS:
        raise BackendRefused(f"steps: sprout takes {LEAST_STEPS} to {MOST_STEPS}, got {steps}")
    if not 0 <= guidance <= MOST_GUIDANCE:
        raise BackendRefused(f"guidance: sprout takes 0 to {MOST_GUIDANCE:g}, got {guidance:g}")
    if start is None:
        return
    if not 0 <= start.strength <= 1:
        raise BackendRefused(f"strength: must lie between 0 and 1, got {start.strength:g}")
    if start.image.shape != (SIDE, SIDE, 4) or start.image.dtype != np.uint8:
        shape = " x ".join(str(length) for length in start.image.shape)
        raise BackendRefused(
            f"image: sprout takes {SIDE} x {SIDE} x 4 bytes (RGBA), got {shape} of {start.image.dtype}; resize it first"
        )


def _session(file: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning would steal cores from others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
