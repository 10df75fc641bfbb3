"""Sluicegate as it is released, its chat lane compiled: ``sluicegate serve`` with one backend, a log line for each
request, all features on."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.lane.contender import UPSTREAM_KEY, Ground, Launch, NotThere
from bench.lane.peers import words_of
from bench.lane.scenarios import MODELS
from bench.wheel import NotCompiled, compiled_package

_SETTINGS: Final = """\
[server]
max_streams = 20000
drain_seconds = 1

[worker]
processes = 0

[observability]
log_format = "json"

[[backends]]
name = "upstream"
kind = "openai"
url = "http://127.0.0.1:{port}/v1"
api_key_env = "BENCH_UPSTREAM_KEY"
models = [{models}]
max_concurrency = 20000
"""


@dataclass(frozen=True, slots=True)
class Sluicegate:
    """One way to run it. `checkout` is another copy of the repository; empty: this one. With `is_compiled` False the
    sources are run as they are written."""

    name: str = "sluicegate"
    processes: int = 1
    checkout: str = ""
    is_compiled: bool = True
    flags: tuple[str, ...] = ()

    def install(self) -> str:
        """The checkout's commit, and what runs it: how its interpreter was built makes a tenth of the figures."""
        folder = self._folder()
        if not (folder / "src" / "sluicegate").is_dir():
            raise NotThere(f'"{self.checkout}" is no checkout of Sluicegate: it has no src/sluicegate')
        self._package()
        commit = words_of(["git", "-C", str(folder), "describe", "--always", "--dirty"])
        way = "its wheel" if self._has_wheel() else "its sources, not compiled"
        interpreter = words_of([self._python(), "-VV"])
        return f"{f'commit {commit}' if commit else 'no commit known'}, {way}, {interpreter}"

    def launch(self, ground: Ground) -> Launch:
        """Its settings, and the command."""
        models = ", ".join(f'"{model}"' for model in MODELS)
        config = ground.folder / "sluicegate.toml"
        config.write_text(_SETTINGS.format(port=ground.upstream_port, models=models), "utf-8")
        command = [self._python(), "-m", "sluicegate", "serve", "--config", str(config)]
        command += ["--port", str(ground.port), "--data-dir", str(ground.folder / "data")]
        if self.processes > 1:
            command += ["--processes", str(self.processes)]
        environment = {"BENCH_UPSTREAM_KEY": UPSTREAM_KEY, "PYTHONPATH": str(self._package())}
        return Launch(command=(*command, *self.flags), environment=environment, live_path="/health/live")

    def _folder(self) -> Path:
        return Path(self.checkout).absolute() if self.checkout else Path(__file__).parents[3]

    def _has_wheel(self) -> bool:
        """Whether it runs compiled; checkouts from before there was such a thing do not."""
        return self.is_compiled and (self._folder() / "hatch_build.py").is_file()

    def _package(self) -> Path:
        """Where it is imported from."""
        if not self._has_wheel():
            return self._folder() / "src"
        try:
            return compiled_package(self._folder(), self._python())
        except NotCompiled as error:
            raise NotThere(str(error)) from None

    def _python(self) -> str:
        own = Path(self.checkout).absolute() / ".venv" / "bin" / "python"
        return str(own) if self.checkout and os.access(own, os.X_OK) else sys.executable
