"""What is particular to signals over sockets: the folder, its rights, the length of its path."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from sluicegate.storage.sqlite.signals import MAX_SOCKET_PATH, SocketSignals, runtime_folder


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_the_folder_depends_on_the_database_alone(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    folder = runtime_folder(tmp_path / "a.db")
    assert folder.parent == runtime
    assert runtime_folder(tmp_path / "link" / "a.db") == folder
    assert runtime_folder(tmp_path / "b.db") != folder


def test_sockets_stand_in_a_private_folder_and_go_with_their_owner(runtime: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = runtime_folder(tmp_path / "a.db")
        one, two = SocketSignals(tmp_path / "a.db"), SocketSignals(tmp_path / "a.db")
        await one.open()
        await two.open()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(list(folder.iterdir())) == 2
        await one.close()
        assert len(list(folder.iterdir())) == 1
        await two.close()
        assert not folder.exists()

    asyncio.run(scenario())


def test_a_dead_socket_is_removed_by_whoever_notices(runtime: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        signals = SocketSignals(tmp_path / "a.db")
        await signals.open()
        folder = runtime_folder(tmp_path / "a.db")
        dead = folder / "1-dead.sock"
        left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.bind(str(dead))
        left.close()
        seen = signals.version("jobs")
        wait = asyncio.ensure_future(signals.wait("jobs", seen, 60.0))
        await asyncio.sleep(0)
        signals.notify("jobs")
        await asyncio.wait_for(wait, 10)
        assert not dead.exists()
        await signals.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["open to others", "a link", "a file", "too long"])
def test_without_a_private_folder_hints_stay_in_the_process(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    folder = runtime_folder(tmp_path / "a.db")
    if fault == "open to others":
        folder.mkdir(mode=0o755)
    elif fault == "a link":
        folder.symlink_to(tmp_path)
    elif fault == "a file":
        folder.write_text("in the way")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / ("x" * MAX_SOCKET_PATH)))

    async def scenario() -> None:
        signals = SocketSignals(tmp_path / "a.db")
        with caplog.at_level(logging.WARNING):
            await signals.open()
        assert "polling" in caplog.text
        seen = signals.version("jobs")
        wait = asyncio.ensure_future(signals.wait("jobs", seen, 60.0))
        await asyncio.sleep(0)
        signals.notify("jobs")
        await asyncio.wait_for(wait, 10)
        await signals.close()

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []
