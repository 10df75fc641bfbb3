"""Where the files of a training run lie."""

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SPROUT_TRAINING"


@dataclass(frozen=True, slots=True)
class Folders:
    """All below `root`, which is never inside the repository."""

    root: Path

    @property
    def packages(self) -> Path:
        """The fetched packages, unpacked: one folder each."""
        return self._made("packages")

    @property
    def data(self) -> Path:
        """Concepts, pictures and latents, as made from the packages."""
        return self._made("data")

    @property
    def checkpoints(self) -> Path:
        """What training can be resumed from."""
        return self._made("checkpoints")

    @property
    def sheets(self) -> Path:
        """Pictures for the eye, made along the way."""
        return self._made("sheets")

    @property
    def reports(self) -> Path:
        """Curves and figures as JSON."""
        return self._made("reports")

    def _made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def folders() -> Folders:
    """The folders below ``$SPROUT_TRAINING``, or below the user's cache when that is not set."""
    given = os.environ.get(VARIABLE)
    if given:
        return Folders(Path(given))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Folders(cache / "sprout-training")
