"""A worker process exactly as the product runs it, but for its model: `SmallPictures` instead of the built-in ones."""

import os
from pathlib import Path
from unittest.mock import patch

from tests.chaos.small_pictures import SmallPictures
from tests.chaos.work_log import NoteSender

from sluicegate.app import worker
from sluicegate.backends.backend import PictureBackend
from sluicegate.settings import Settings

FOLDER_VARIABLE = "SLUICEGATE_CHAOS_FOLDER"


def main() -> None:
    """Entry point: ``python -m tests.chaos.worker_process``."""
    folder = Path(os.environ[FOLDER_VARIABLE])

    def small_pictures(settings: Settings) -> list[PictureBackend]:
        return [SmallPictures(NoteSender(folder / "work.sock", os.getpid()), folder / "marks")]

    with patch.object(worker, "picture_backends", small_pictures):
        worker.main()


if __name__ == "__main__":
    main()
