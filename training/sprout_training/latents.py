"""Every picture once through the encoder: ``latents.pt`` with `plain` (n, 6, 16, 16) and `recoloured` (n, k, …)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sprout_training.autoencoder import Autoencoder
from sprout_training.folders import folders
from sprout_training.pictures import as_tensor
from sprout_training.schedule import use_threads
from sprout_training.train_autoencoder import load

_BATCH = 64


@torch.no_grad()
def encode(model: Autoencoder, pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, 128, 128, 4) to float (n, 6, 16, 16)."""
    parts = [pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH)]
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([model.encoder(as_tensor(part)).float() for part in parts])


def main() -> None:
    """Encode what the recipe's data holds."""
    use_threads()
    where = folders()
    model = load(where)
    pictures = np.load(where.data / "pictures.npy", mmap_mode="r")
    copies = np.load(where.data / "recoloured.npy", mmap_mode="r")
    plain = encode(model, pictures)
    recoloured = encode(model, copies.reshape(-1, *copies.shape[2:])).view(len(copies), -1, *plain.shape[1:])
    torch.save({"plain": plain, "recoloured": recoloured}, where.data / "latents.pt")
    print(f"{len(plain)} latents, mean {plain.mean():.3f}, deviation {plain.std():.3f}", flush=True)


if __name__ == "__main__":
    main()
