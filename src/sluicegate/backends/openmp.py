"""Lending a process the OpenMP runtime where the system has none.

llama.cpp's wheel expects ``libgomp.so.1`` from the system, and a bare Debian has none. The wheel of ncnn, which is
always installed beside it, brings the same library under a name of its own. The loader reads LD_LIBRARY_PATH
only when a process starts, so a process that lacks the library replaces itself by one that finds it.
"""

import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

LIBRARY = "libgomp.so.1"
FOLDER_VARIABLE = "SLUICEGATE_OPENMP_FOLDER"
_LENDER = "ncnn"


def ensure_openmp(module: str) -> None:
    """Return when the runtime can be loaded; else start `module` again, with the same arguments, where it can.

    When no package can lend it, this returns as well: importing what needs it then tells what is missing.
    """
    if sys.platform != "linux" or _loads():
        return
    lent = bundled_library()
    if lent is None or FOLDER_VARIABLE in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="sluicegate-")
    (Path(folder) / LIBRARY).symlink_to(lent)
    paths = [folder, os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {**os.environ, FOLDER_VARIABLE: folder, "LD_LIBRARY_PATH": ":".join(filter(None, paths))}
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)  # noqa: S606 - ourselves


def bundled_library() -> Path | None:
    """The runtime inside the lender's wheel; None when there is none."""
    spec = importlib.util.find_spec(_LENDER)
    folders = [Path(folder).parent / f"{_LENDER}.libs" for folder in (spec and spec.submodule_search_locations) or ()]
    return next((file for folder in folders for file in sorted(folder.glob("libgomp*.so*"))), None)


def _loads() -> bool:
    """Whether the loader finds the library; once it is loaded, the folder that lent it is no longer needed."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    folder = os.environ.pop(FOLDER_VARIABLE, "")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return True
