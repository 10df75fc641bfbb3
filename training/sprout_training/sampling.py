"""Drawing with the network in PyTorch, for sheets along the way; the package draws with ONNX Runtime."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sluicegate.backends.local_image.sprout.words import Vocabulary
from sprout_training.autoencoder import Decoder
from sprout_training.recipe import LATENT_CHANNELS, LATENT_SIDE
from sprout_training.unet import Sprout


def encode_prompts(vocabulary: Vocabulary, prompts: Sequence[str]) -> Tensor:
    """Prompts as (n, WORDS, PIECES), as the package reads them."""
    return torch.from_numpy(np.stack([vocabulary.read(prompt).ids for prompt in prompts]))


@torch.no_grad()
def draw(model: Sprout, ids: Tensor, *, steps: int = 20, guidance: float = 3.0, seed: int = 0) -> Tensor:
    """Latents (n, 6, 16, 16) for `ids`, by Euler's method with classifier-free guidance."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(ids), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=generator).to(ids.device)
    both = torch.cat([ids, torch.zeros_like(ids)])
    times = torch.linspace(1, 0, steps + 1, device=ids.device)
    for now, then in pairwise(times):
        with torch.autocast(ids.device.type, torch.bfloat16):
            velocity = model(torch.cat([latents, latents]), now.expand(2 * len(ids)), both).float()
        asked, free = velocity.chunk(2)
        latents = latents + (then - now) * (free + guidance * (asked - free))
    return latents


@torch.no_grad()
def decode(decoder: Decoder, latents: Tensor) -> Tensor:
    """Latents to premultiplied pictures (n, 4, 128, 128)."""
    with torch.autocast(latents.device.type, torch.bfloat16):
        return torch.cat([decoder(part).float() for part in latents.split(32)])
