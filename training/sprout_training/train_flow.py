"""Train the flow: a straight way from noise to each latent, learnt as a velocity; resumes by itself.

Source: Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow" (2022),
https://arxiv.org/abs/2209.03003; times as in Esser et al., "Scaling Rectified Flow Transformers" (2024),
https://arxiv.org/abs/2403.03206.
"""

import copy
import json
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sprout_training.autoencoder import Decoder
from sprout_training.dataset import Batch, Dataset
from sprout_training.folders import Folders, folders
from sprout_training.pictures import on_white, sheet
from sprout_training.recipe import FlowRecipe, current
from sprout_training.sampling import decode, draw, encode_prompts
from sprout_training.schedule import Budget, cosine, save, set_rate
from sprout_training.together import Group, run
from sprout_training.train_autoencoder import load as load_autoencoder
from sprout_training.unet import Sprout

REPORT_EVERY = 100
AVERAGE_EVERY = 4
PROMPTS = (
    "red apple", "smiling cat", "rocket", "pizza", "blue car", "dog", "robot", "red heart", "tree", "house", "guitar",
    "crown", "ghost", "sun", "fish", "banana", "star", "alien", "birthday cake", "bicycle", "dragon", "umbrella",
    "panda", "coffee",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Probe:
    """A fixed question whose loss can be compared over time."""

    latents: Tensor
    noise: Tensor
    times: Tensor
    ids: Tensor


def flow_loss(model: Sprout, latents: Tensor, noise: Tensor, times: Tensor, ids: Tensor) -> Tensor:
    """Mean squared error of the velocity at `times` between picture (0) and noise (1)."""
    share = times[:, None, None, None]
    with torch.autocast(latents.device.type, torch.bfloat16):
        velocity = model((1 - share) * latents + share * noise, times, ids)
    return (velocity.float() - (noise - latents)).pow(2).mean()


class Trainer:
    """The network, its moving average, and all that a resumed run needs."""

    def __init__(self, where: Folders, recipe: FlowRecipe, group: Group) -> None:
        torch.manual_seed(recipe.seed)
        self._where, self._recipe, self._group = where, recipe, group
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._data = Dataset(where, self._device, recipe.recoloured_share)
        self._model = Sprout(self._data.vocabulary.size).to(self._device)
        self._average = copy.deepcopy(self._model).eval().requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), recipe.learning_rate, (0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self._budget = Budget(recipe.minutes)
        self._step = 0
        self._samples = 0
        self._curve: list[dict[str, float]] = []
        self._file = where.checkpoints / "flow.pt"
        self._decoder: Decoder = load_autoencoder(where).decoder.to(self._device)
        self._probe = self._make_probe()
        self._resume()

    def run(self) -> None:
        """Train until the budget is spent, with a checkpoint and a sheet every few minutes."""
        recipe, group = self._recipe, self._group
        generator = np.random.default_rng((recipe.seed, self._step, group.rank))
        torch.manual_seed(recipe.seed + self._step * group.size + group.rank)
        losses: deque[float] = deque(maxlen=REPORT_EVERY)
        saved = self._budget.seconds
        spent = 0.0
        self._budget.tick()
        while spent < 1:
            loss, spent = self._learn(self._data.draw(recipe.batch, generator))
            losses.append(loss)
            self._step += 1
            self._samples += recipe.batch * group.size
            if self._step % AVERAGE_EVERY == 0:
                self._follow()
            if group.speaks and self._step % REPORT_EVERY == 0:
                self._report(losses)
            if group.speaks and self._budget.seconds - saved > 60 * recipe.checkpoint_minutes:
                saved = self._budget.seconds
                self._save()
                self._show()
        if group.speaks:
            self._report(losses)
            self._save()
            self._show()

    def _learn(self, batch: Batch) -> tuple[float, float]:
        """One step; its loss, and the share of the budget that the whole group has spent."""
        count, device, recipe = len(batch.latents), self._device, self._recipe
        times = torch.sigmoid(torch.randn(count, device=device) + recipe.time_shift)
        uniform = torch.rand(count, device=device) < 0.1
        times = torch.where(uniform, torch.rand(count, device=device), times)
        loss = flow_loss(self._model, batch.latents, torch.randn_like(batch.latents), times, batch.ids)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self._model.parameters())
        spent = self._group.mean_gradients(parameters, self._budget.tick())
        rate = cosine(spent, constant=recipe.constant_share) * min(1, (self._step + 1) / 200)
        set_rate(self._optimizer, recipe.learning_rate * rate)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        self._optimizer.step()
        return float(loss.item()), spent

    def _follow(self) -> None:
        """Move the average towards the weights; faster while training is young."""
        keep = min(self._recipe.ema, (1 + self._step) / (10 + self._step)) ** AVERAGE_EVERY
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.parameters()), list(self._model.parameters()), 1 - keep)

    def _make_probe(self) -> Probe:
        rows = np.random.default_rng(5).choice(len(self._data.rows), 256)
        noise = torch.randn(256, *self._data.plain.shape[1:], generator=torch.Generator().manual_seed(3))
        times = (torch.arange(256) + 0.5) / 256
        return Probe(
            self._data.plain[torch.from_numpy(rows).to(self._device)],
            noise.to(self._device),
            times.to(self._device),
            self._data.label_ids(rows),
        )

    @torch.no_grad()
    def _report(self, losses: deque[float]) -> None:
        probe = self._probe
        measured = float(flow_loss(self._average, probe.latents, probe.noise, probe.times, probe.ids).item())
        samples, seconds = self._samples, self._budget.seconds
        row = {
            "samples": samples,
            "exposures": samples / len(self._data.rows),
            "seconds": seconds,
            "loss": sum(losses) / max(1, len(losses)),
            "probe": measured,
        }
        self._curve.append(row)
        print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), f"{samples / seconds:.0f}/s", flush=True)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "vocabulary": list(self._data.vocabulary.words),
            "step": self._step,
            "samples": self._samples,
            "seconds": self._budget.seconds,
            "curve": self._curve,
        }
        save(state, self._file)
        (self._where.reports / "flow.json").write_text(json.dumps(self._curve, indent=0))

    def _resume(self) -> None:
        if not self._file.exists():
            return
        state = torch.load(self._file, map_location=self._device)
        if state["vocabulary"] != list(self._data.vocabulary.words):
            raise SystemExit(f"{self._file} was trained on other captions; move it away to start again")
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step, self._samples, self._curve = state["step"], state["samples"], state["curve"]
        self._budget.seconds = state["seconds"]

    def _show(self) -> None:
        ids = encode_prompts(self._data.vocabulary, PROMPTS).to(self._device)
        pictures = decode(self._decoder, draw(self._average, ids, seed=1)).cpu()
        sheet(on_white(pictures), 12, self._where.sheets / f"flow_{self._budget.seconds // 60:03.0f}.png")


def work(group: Group) -> None:
    """One process's share of the training."""
    torch.set_flush_denormal(True)
    Trainer(folders(), current().flow, group).run()


def main() -> None:
    """Train with the recipe, in one process on a GPU."""
    run(work, 1 if torch.cuda.is_available() else current().flow.workers)


if __name__ == "__main__":
    main()
