"""Train the autoencoder, then its decoder alone for sharper pictures; resumes by itself."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sprout_training.autoencoder import Autoencoder
from sprout_training.folders import Folders, folders
from sprout_training.pictures import as_tensor, on_white, sheet
from sprout_training.recipe import LATENT_CHANNELS, LATENT_SIDE, AutoencoderRecipe, current
from sprout_training.schedule import Budget, cosine, save, set_rate, use_threads

REPORT_EVERY = 20


def reconstruction_loss(made: Tensor, wanted: Tensor, edges: float) -> tuple[Tensor, Tensor]:
    """L1 on premultiplied RGBA and on its composite with white, plus `edges` times that of their gradients.

    Also the mean squared error of the composite, for the peak signal-to-noise ratio.
    """
    error = made - wanted
    composite = error[:, :3] - error[:, 3:]
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + composite.abs().mean() + edges * (across + down), (composite**2).mean()


class Trainer:
    """One stage: the whole autoencoder, or only its decoder (`sharpen`)."""

    def __init__(self, where: Folders, recipe: AutoencoderRecipe, *, sharpen: bool) -> None:
        torch.manual_seed(recipe.seed + sharpen)
        self._where, self._recipe, self._sharpen = where, recipe, sharpen
        self._pictures = np.load(where.data / "pictures.npy", mmap_mode="r")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = Autoencoder().to(self._device, memory_format=torch.channels_last)
        self._file = where.checkpoints / ("autoencoder_sharp.pt" if sharpen else "autoencoder.pt")
        learner = self._model.decoder if sharpen else self._model
        self._rate = recipe.learning_rate * (0.6 if sharpen else 1.0)
        self._optimizer = torch.optim.AdamW(learner.parameters(), self._rate, betas=(0.9, 0.95), weight_decay=1e-4)
        self._budget = Budget(recipe.decoder_minutes if sharpen else recipe.minutes)
        self._step = 0
        self._curve: list[dict[str, float]] = []
        self._resume()

    def run(self) -> None:
        """Train until the budget is spent."""
        generator = np.random.default_rng(self._recipe.seed + self._step)
        errors: list[float] = []
        spent = self._budget.tick()
        while spent < 1:
            set_rate(self._optimizer, self._rate * min(1, (self._step + 1) / 50) * cosine(spent))
            errors.append(self._learn(self._batch(generator)))
            self._step += 1
            spent = self._budget.tick()
            if self._step % REPORT_EVERY == 0:
                self._report(errors)
            if self._step % (5 * REPORT_EVERY) == 0:
                self._save()
        self._save()
        self._show()

    def _batch(self, generator: np.random.Generator) -> Tensor:
        chosen = np.sort(generator.choice(len(self._pictures), self._recipe.batch, replace=False))
        pictures = as_tensor(self._pictures[chosen]).to(self._device)
        if generator.random() < 0.5:
            order = [*generator.permutation(3).tolist(), 3]
            pictures = pictures[:, order]
        if generator.random() < 0.5:
            pictures = pictures.flip(-1)
        return pictures.contiguous(memory_format=torch.channels_last)

    def _learn(self, pictures: Tensor) -> float:
        noise = torch.randn(len(pictures), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, device=self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            if self._sharpen:
                with torch.no_grad():
                    latents = self._model.encoder.eval()(pictures)
            else:
                latents = self._model.encoder(pictures)
            made = self._model.decoder(latents + self._recipe.latent_noise * noise)
        loss, squared = reconstruction_loss(made, pictures, edges=1.5 if self._sharpen else 1.0)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        return float(squared.item())

    def _report(self, errors: list[float]) -> None:
        seconds = self._budget.seconds
        ratio = -10 * math.log10(sum(errors) / len(errors))
        errors.clear()
        self._curve.append({"step": self._step, "seconds": seconds, "psnr": ratio})
        rate = self._step * self._recipe.batch / seconds
        print(f"step {self._step} {seconds:.0f} s {rate:.0f} pictures/s PSNR {ratio:.2f}", flush=True)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "seconds": self._budget.seconds,
            "curve": self._curve,
        }
        save(state, self._file)
        report = self._where.reports / f"{self._file.stem}.json"
        report.write_text(json.dumps(self._curve))

    def _resume(self) -> None:
        if self._file.exists():
            state = torch.load(self._file)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._step, self._budget.seconds, self._curve = state["step"], state["seconds"], state["curve"]
        elif self._sharpen:
            whole = torch.load(self._where.checkpoints / "autoencoder.pt")
            self._model.load_state_dict(whole["model"])

    @torch.no_grad()
    def _show(self) -> None:
        """A sheet of pictures beside what comes back from their latents."""
        chosen = np.linspace(0, len(self._pictures) - 1, 32).astype(int)
        pictures = as_tensor(self._pictures[chosen]).to(self._device)
        self._model.eval()
        made = self._model.decoder(self._model.encoder(pictures))
        pairs = torch.stack((pictures, made), 1).flatten(0, 1)
        sheet(on_white(pairs.cpu()), 16, self._where.sheets / f"{self._file.stem}.png")


def load(where: Folders) -> Autoencoder:
    """The finished autoencoder, in float32 on the CPU, the sharper decoder where there is one."""
    sharp: Path = where.checkpoints / "autoencoder_sharp.pt"
    state = torch.load(sharp if sharp.exists() else where.checkpoints / "autoencoder.pt", map_location="cpu")
    model = Autoencoder()
    model.load_state_dict(state["model"])
    return model.eval()


def main() -> None:
    """Both stages, one after the other."""
    use_threads()
    where, recipe = folders(), current().autoencoder
    Trainer(where, recipe, sharpen=False).run()
    if recipe.decoder_minutes:
        Trainer(where, recipe, sharpen=True).run()


if __name__ == "__main__":
    main()
