"""Several processes that learn as one: each its own pictures, then the mean of their gradients.

On a CPU, processes of one thread each learn more in the same time than one process with as many threads, above all on
a machine that has other work to do.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.nn import Parameter


class Group:
    """This process among its group; `rank` 0 speaks for all."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    @property
    def speaks(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    def mean_gradients(self, parameters: Iterable[Parameter], spent: float) -> float:
        """Replace each gradient by the group's mean; give everybody rank 0's `spent`."""
        if self.size == 1:
            return spent
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        parts = [gradient.flatten() for gradient in gradients]
        flat = torch.cat([*parts, torch.tensor([spent * self.size if self.speaks else 0.0], device=parts[0].device)])
        distributed.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat[:-1].split([len(part) for part in parts]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(flat[-1].item())


def run(work: Callable[[Group], None], size: int) -> None:
    """Call `work`, a function of a module, in `size` processes of one thread each; in this one when `size` is 1."""
    if size == 1:
        work(Group(0, 1))
        return
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_begin, (size, Path(folder) / "meeting", work), nprocs=size)


def _begin(rank: int, size: int, meeting: Path, work: Callable[[Group], None]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        work(Group(rank, size))
    finally:
        distributed.destroy_process_group()
