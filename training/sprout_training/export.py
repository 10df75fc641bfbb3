"""The trained networks as four ONNX graphs with 8-bit weights, and the vocabulary, for the package.

Usage: ``python -m sprout_training.export FOLDER``.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sluicegate.backends.local_image.sprout.words import PIECES, WORDS, Vocabulary
from sprout_training.compress import compress
from sprout_training.folders import Folders, folders
from sprout_training.recipe import LATENT_CHANNELS, LATENT_SIDE, SIDE
from sprout_training.train_autoencoder import load as load_autoencoder
from sprout_training.unet import Sprout, UNet

OPSET = 17


class GuidedStep(nn.Module):
    """The guided velocity of n latents; the text holds n prompts, then n times what is unwanted."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(  # noqa: PLR0917 - the exporter hands over by position
        self, latents: Tensor, time: Tensor, guidance: Tensor, words: Tensor, bias: Tensor, pooled: Tensor
    ) -> Tensor:
        both = torch.cat([latents, latents])
        velocity = self.unet(both, time.reshape(1).expand(both.shape[0]), words, bias, pooled)
        asked, free = velocity.chunk(2)
        made: Tensor = free + guidance * (asked - free)
        return made


def load(where: Folders) -> tuple[Sprout, Vocabulary]:
    """The moving average of the last checkpoint, in float32 on the CPU, and its vocabulary."""
    state = torch.load(where.checkpoints / "flow.pt", map_location="cpu")
    vocabulary = Vocabulary(state["vocabulary"])
    model = Sprout(vocabulary.size)
    model.load_state_dict(state["average"])
    return model.eval(), vocabulary


def export(where: Folders, target: Path) -> None:
    """Write ``text``, ``step``, ``decoder`` and ``encoder`` as ``.onnx``, and ``vocabulary.txt``."""
    model, vocabulary = load(where)
    autoencoder = load_autoencoder(where)
    ids = torch.randint(0, vocabulary.size, (4, WORDS, PIECES))
    with torch.no_grad():
        words, bias, pooled = model.text(ids)
    latents = torch.randn(2, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE)
    stepped = (latents, torch.tensor(0.5), torch.tensor(3.0), words, bias, pooled)
    step_names = ["latents", "time", "guidance", "words", "bias", "pooled"]
    _write(target / "text.onnx", model.text, (ids,), ["ids"], ["words", "bias", "pooled"])
    _write(target / "step.onnx", GuidedStep(model.unet).eval(), stepped, step_names, ["velocity"])
    _write(target / "decoder.onnx", autoencoder.decoder, (latents,), ["latents"], ["pictures"])
    _write(target / "encoder.onnx", autoencoder.encoder, (torch.rand(2, 4, SIDE, SIDE),), ["pictures"], ["latents"])
    (target / "vocabulary.txt").write_text("\n".join(vocabulary.words) + "\n", encoding="utf-8")


def _write(file: Path, module: nn.Module, inputs: tuple[Any, ...], takes: list[str], gives: list[str]) -> None:
    # The number of rows is free, and that of the text is twice that of the latents.
    rows = {"words": "texts", "bias": "texts", "pooled": "texts", "ids": "texts"}
    axes = {name: {0: rows.get(name, "pictures")} for name in (*takes, *gives) if name not in ("time", "guidance")}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        whole = Path(folder) / file.name
        torch.onnx.export(
            module, inputs, str(whole), input_names=takes, output_names=gives, dynamic_axes=axes, opset_version=OPSET,
            dynamo=False,
        )  # fmt: skip
        compress(whole, file)
    print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB", flush=True)


def main() -> None:
    """Export the last checkpoint into the folder given."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    export(folders(), target)


if __name__ == "__main__":
    main()
