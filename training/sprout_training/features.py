"""A classifier of concepts, trained for the evaluation alone: its features say which concept a picture shows.

It sees the training pictures and their recoloured copies shifted, scaled, mirrored, blurred and in other light, so that
what it learns is the thing and not the pixels. One recoloured copy of each picture is kept back to check it.
"""

import json
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sprout_training.folders import Folders, folders
from sprout_training.pictures import as_tensor
from sprout_training.recipe import current
from sprout_training.schedule import cosine, save, set_rate, use_threads

FEATURES = 256
SIDE = 64
BATCH = 96
RATE = 2e-3


class Classifier(nn.Module):
    """Pictures (n, 3, 64, 64) on white, 0 to 1, to features (n, 256) of length one; `concepts` gives scores."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        layers: list[nn.Module] = []
        for inward, outward in pairwise(widths):
            layers += [nn.Conv2d(inward, outward, 3, stride=2, padding=1), nn.GroupNorm(8, outward), nn.SiLU()]
            layers += [nn.Conv2d(outward, outward, 3, padding=1, groups=8), nn.GroupNorm(8, outward), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, FEATURES))
        self.concepts = nn.Linear(FEATURES, concepts, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return functional.normalize(self.body(pictures * 2 - 1), dim=1)

    def scores(self, features: Tensor) -> Tensor:
        """Cosine with each concept's own vector, sharpened."""
        return 16 * features @ functional.normalize(self.concepts.weight, dim=1).T


def small_on_white(pictures: Tensor) -> Tensor:
    """Premultiplied (n, 4, 128, 128) to (n, 3, 64, 64) on white."""
    return functional.avg_pool2d(pictures[:, :3] + (1 - pictures[:, 3:]), 2)


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, scale, mirror, blur and relight each picture (n, 3, 64, 64) in its own way."""
    count = len(pictures)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = between(0.88, 1.15) * (torch.rand(count, generator=generator) < 0.5).float().mul(2).sub(1)
    maps[:, 1, 1] = between(0.88, 1.15)
    maps[:, 0, 1], maps[:, 1, 0] = between(-0.12, 0.12), between(-0.12, 0.12)
    maps[:, :, 2] = torch.stack((between(-0.1, 0.1), between(-0.1, 0.1)), 1)
    grid = functional.affine_grid(maps, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(1 - pictures, grid, align_corners=False)
    blurred = functional.avg_pool2d(moved, 3, 1, 1)
    mixed = torch.lerp(moved, blurred, between(0, 1)[:, None, None, None])
    light = between(0.75, 1.2)[:, None, None, None]
    noise = torch.randn(mixed.shape, generator=generator) * 0.03
    return (1 - mixed * light + noise).clamp(0, 1)


class Gallery:
    """The training pictures, small and on white, with the number of the concept each shows."""

    def __init__(self, where: Folders) -> None:
        plain = np.load(where.data / "pictures.npy", mmap_mode="r")
        copies = np.load(where.data / "recoloured.npy", mmap_mode="r")
        rows = json.loads((where.data / "pictures.json").read_text())
        self.concepts = torch.tensor([concept for concept, _ in rows])
        self.plain = _small(plain)
        self.copies = torch.stack([_small(copies[:, copy]) for copy in range(copies.shape[1])], 1)

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Disturbed pictures and their concepts; a third are recoloured, the last copy never."""
        rows = torch.randint(len(self.plain), (size,), generator=generator)
        copy = torch.randint(self.copies.shape[1] - 1, (size,), generator=generator)
        plain = (torch.rand(size, generator=generator) < 0.67)[:, None, None, None]
        chosen = torch.where(plain, self.plain[rows], self.copies[rows, copy])
        return disturb(chosen.float() / 255, generator), self.concepts[rows]


def _small(pictures: NDArray[np.uint8]) -> Tensor:
    parts = [small_on_white(as_tensor(pictures[start : start + 64])) for start in range(0, len(pictures), 64)]
    return (torch.cat(parts).clamp(0, 1) * 255).round().byte()


@torch.no_grad()
def describe(model: Classifier, pictures: Tensor) -> Tensor:
    """Features (n, 256) of small pictures, 0 to 1."""
    return torch.cat([model(part) for part in pictures.split(128)])


def load(where: Folders) -> Classifier:
    """The trained classifier."""
    state = torch.load(where.checkpoints / "features.pt")
    model = Classifier(state["concepts.weight"].shape[0])
    model.load_state_dict(state)
    return model.eval()


def main() -> None:
    """Train, check on the copies kept back, and save."""
    use_threads()
    torch.manual_seed(0)
    where = folders()
    gallery = Gallery(where)
    model = Classifier(int(gallery.concepts.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02, fused=True)
    generator = torch.Generator().manual_seed(1)
    steps = current().evaluation.judge_samples // BATCH
    for step in range(steps):
        set_rate(optimizer, RATE * cosine(step / steps) * min(1, (step + 1) / 50))
        pictures, concepts = gallery.draw(BATCH, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model.scores(model(pictures)).float(), concepts, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps} loss {loss.item():.3f}", flush=True)
    model.eval()
    kept_back = disturb(gallery.copies[:, -1].float() / 255, generator)
    guessed = describe(model, kept_back) @ describe(model, gallery.plain.float() / 255).T
    right = (gallery.concepts[guessed.argmax(1)] == gallery.concepts).float().mean().item()
    print(f"nearest plain picture of a kept-back, disturbed copy is its own concept: {right:.1%}", flush=True)
    (where.reports / "features.json").write_text(json.dumps({"kept_back_top1": right}))
    save(model.state_dict(), where.checkpoints / "features.pt")


if __name__ == "__main__":
    main()
