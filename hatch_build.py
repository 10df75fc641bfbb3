"""The wheel's build: the modules of the chat lane compiled by mypyc, beside their sources.

Enabled by ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=true`` (``make wheel``), which needs mypy and a C compiler; without it the
package is pure Python and does the same. Which modules: ``[tool.hatch.build.targets.wheel.hooks.custom]``.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "src"


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel; what an editable install imports stays as it is written."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling. Raises `SystemExit` with the reason when the modules cannot be compiled."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="sluicegate-compiled-")
        try:
            files = _compiled(self.config["modules"], Path(self.root), Path(self._folder.name))
        except Exception as error:
            sys.exit(
                f"the chat lane was not compiled: {error}\n"
                "It takes what `make wheel` installs, a C compiler and Python's headers (apt install gcc python3-dev); "
                "without HATCH_BUILD_HOOK_ENABLE_CUSTOM it is not tried."
            )
        for path, place in files:
            build_data["force_include"][str(path)] = place
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """See hatchling."""
        if version != "editable":
            self._folder.cleanup()


def _compiled(modules: list[str], root: Path, folder: Path) -> list[tuple[Path, str]]:
    """Every compiled file and its place in the wheel."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(root)
    sources = [f"{_SOURCE}/{module.replace('.', '/')}.py" for module in modules]
    extensions = mypycify(
        ["--config-file", "pyproject.toml", *sources],
        opt_level="3",
        debug_level="0",
        group_name="sluicegate",
        target_dir=str(folder / "c"),
    )
    command = build_ext(Distribution({"name": "sluicegate", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "o")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
    lib = folder / "lib"
    files = [path for path in lib.rglob("*") if path.suffix in {".so", ".pyd"}]
    if len(files) != len(modules) + 1:
        sys.exit(f"{len(modules)} modules were to be compiled, and one that they share; there are {len(files)} files")
    return [(path, str(path.relative_to(lib))) for path in files]
