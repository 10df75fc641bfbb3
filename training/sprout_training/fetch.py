"""Fetch the picture sets and captions: npm packages by name and version, from whatever registry npm is set up with.

npm checks each package against the registry's own hash. Nothing in a package is run.
"""

import subprocess
import tarfile
from pathlib import Path

from sprout_training.folders import folders

PACKAGES = {
    "captions": "emojibase-data@17.0.0",
    "3d": "@lobehub/fluent-emoji-3d@1.1.0",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "noto": "@iconify-json/noto@1.2.9",
    "blob": "@iconify-json/noto-v1@1.2.5",
}
"""What each package is used for: captions, or the pictures of a style."""


def main() -> None:
    """Fetch what is not there yet."""
    target = folders().packages
    for use, package in PACKAGES.items():
        folder = target / use
        if not folder.exists():
            _fetch(package, folder)
        print(f"{use}: {package}", flush=True)


def _fetch(package: str, folder: Path) -> None:
    command = ["npm", "pack", "--silent", package]
    done = subprocess.run(command, cwd=folder.parent, check=True, capture_output=True, text=True)  # noqa: S603
    archive = folder.parent / done.stdout.strip().splitlines()[-1]
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with tarfile.open(archive) as packed:
        packed.extractall(unfinished, filter="data")
    unfinished.replace(folder)
    archive.unlink()


if __name__ == "__main__":
    main()
