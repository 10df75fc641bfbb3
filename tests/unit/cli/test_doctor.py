"""What doctor finds, and the mends it names."""

import asyncio
import json
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner
from tests.gateway import free_port
from tests.ollama_peer import ollama_peer
from tests.unit.cli.scripted_gateway import json_answer, scripted_gateway
from tests.upstream import scripted_upstream

from sluicegate.cli import main
from sluicegate.cli.backend_checks import LOCAL_PARTS, Part, check_chat, check_parts, check_pictures, check_store
from sluicegate.cli.checks import (
    Finding,
    check_folder,
    check_folders,
    check_machine,
    check_packages,
    check_port,
    check_python,
)
from sluicegate.settings import BackendSettings, Settings, StorageSettings, WorkerSettings


def chat_findings(settings: Settings) -> list[Finding]:
    async def scenario() -> list[Finding]:
        return [finding async for finding in check_chat(settings)]

    return asyncio.run(scenario())


def test_python_must_be_new_enough() -> None:
    assert check_python((3, 13, 0)).verdict == "ok"
    assert check_python((3, 10, 9)) == Finding(
        "python", "problem", "Python 3.10.9 is too old", "install Python 3.11 or newer"
    )


def test_packages_must_be_there_and_new_enough() -> None:
    assert [finding.verdict for finding in check_packages()] == ["ok"]
    findings = check_packages(["click>=8.2", "click>=999", "no-such-package>=1", "extra-only>=1; extra == 'x'"])
    assert [finding.message.split(" is ")[1] for finding in findings] == ["older than 999", "not installed"]
    assert all("make install" in finding.mend for finding in findings)


def test_little_memory_is_a_warning_and_unknown_memory_too() -> None:
    def verdict(memory: dict[str, int]) -> str:
        return list(check_machine(cores=2, memory=memory))[-1].verdict

    assert verdict({"MemTotal": 8_000_000_000, "MemAvailable": 4_000_000_000}) == "ok"
    assert verdict({"MemTotal": 8_000_000_000, "MemAvailable": 400_000_000}) == "warning"
    assert verdict({}) == "warning"


def test_a_folder_that_can_be_made_is_well_and_is_not_made(tmp_path: Path) -> None:
    finding = check_folder("data folder", tmp_path / "a" / "b")

    assert finding.verdict == "ok"
    assert "made at the first start" in finding.message
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")

    finding = check_folder("data folder", tmp_path / "data")

    assert (finding.verdict, finding.message) == ("problem", f"{tmp_path / 'data'} is a file")
    assert "--data-dir" in finding.mend


def test_a_folder_that_cannot_be_written_to_is_a_problem() -> None:
    finding = check_folder("data folder", Path("/proc/sluicegate"))

    assert finding.verdict == "problem"
    assert "/proc cannot be written to" in finding.message


def test_folders_outside_the_data_folder_are_looked_at_too(tmp_path: Path) -> None:
    storage = StorageSettings(url=f"sqlite:///{tmp_path}/elsewhere/a.db")

    findings = list(check_folders(Settings(data_dir=str(tmp_path / "data"), storage=storage)))

    assert [finding.check for finding in findings] == ["data folder", "database folder"]


def test_a_port_of_another_program_is_a_problem() -> None:
    async def scenario() -> Finding:
        async with scripted_gateway() as other:
            other.script("GET", "/health/live", json_answer({"status": "ok"}))
            return await check_port("127.0.0.1", int(other.url.rpartition(":")[2]))

    finding = asyncio.run(scenario())

    assert finding.verdict == "problem"
    assert "--port" in finding.mend


def test_a_port_of_a_gateway_is_well_and_so_is_a_free_one() -> None:
    async def scenario() -> Finding:
        async with scripted_gateway() as gateway:
            gateway.script("GET", "/health/live", json_answer({"status": "ok"}, x_request_id="req_1"))
            return await check_port("127.0.0.1", int(gateway.url.rpartition(":")[2]))

    assert asyncio.run(scenario()).message.startswith("a gateway runs on port")
    assert asyncio.run(check_port("127.0.0.1", free_port())).verdict == "ok"


def test_an_address_of_another_machine_is_a_problem() -> None:
    assert asyncio.run(check_port("192.0.2.7", 8000)).verdict == "problem"


def test_a_store_not_yet_made_is_tried_elsewhere(tmp_path: Path) -> None:
    finding = asyncio.run(check_store(Settings(data_dir=str(tmp_path / "data"))))

    assert finding.verdict == "ok", finding
    assert list(tmp_path.iterdir()) == []


def test_a_pool_to_serve_that_nobody_has_is_a_warning(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), worker=WorkerSettings(pools=("default", "defualt")))
    finding = asyncio.run(check_store(settings))

    assert finding.verdict == "warning"
    assert finding.message.endswith("worker.pools: no backend and no job has defualt")


def test_a_damaged_database_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "sluicegate.db").write_bytes(b"this is no database at all" * 400)

    finding = asyncio.run(check_store(Settings(data_dir=str(tmp_path))))

    assert finding.verdict == "problem"
    assert "sluicegate.db" in finding.message


def test_a_backend_that_answers_is_well_and_its_models_are_told() -> None:
    with scripted_upstream("steady", "huge") as upstream:
        backend = BackendSettings(name="gpu", kind="openai", url=upstream.url)
        findings = chat_findings(Settings(backends=(backend,)))

    assert findings == [Finding("backend gpu", "ok", "serves steady, huge")]


def test_an_ollama_server_is_examined_like_any_other() -> None:
    with ollama_peer() as peer:
        backend = BackendSettings(name="gpu", kind="ollama", url=peer.url)
        (finding,) = chat_findings(Settings(backends=(backend,)))

    assert (finding.verdict, finding.message.startswith("serves steady:latest, ")) == ("ok", True)


def test_an_ollama_server_without_models_is_told_where_they_come_from() -> None:
    with scripted_upstream("steady") as upstream:
        upstream.tell("/api/tags", 200, '{"models":[]}')
        (finding,) = chat_findings(Settings(backends=(BackendSettings(name="gpu", kind="ollama", url=upstream.root),)))

    assert (finding.verdict, finding.mend) == ("warning", "pull one there, with `ollama pull`")


@pytest.mark.parametrize("kind", ["vllm", "ollama"])
def test_a_server_of_any_kind_that_is_not_there_is_named(kind: Literal["vllm", "ollama"]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (finding,) = chat_findings(Settings(backends=(BackendSettings(name="gpu", kind=kind, url=url),)))

    assert finding.verdict == "problem"
    assert url in finding.mend


def test_a_backend_that_does_not_answer_is_a_problem_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    (finding,) = chat_findings(Settings(backends=(BackendSettings(name="gpu", kind="openai", url=url),)))

    assert finding.verdict == "problem"
    assert url in finding.mend


def test_the_built_in_models_are_found_where_they_were_installed() -> None:
    for backend in Settings().backends:
        assert list(check_parts(backend)) == []
    (finding,) = check_pictures(Settings())
    assert finding.verdict == "ok"
    assert "style-transfer" in finding.message


def test_a_missing_package_and_missing_weights_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (Part("no_such_package"), Part("click", "*.gguf", imported=False))
    monkeypatch.setitem(LOCAL_PARTS, "local-image", broken)

    findings = check_pictures(Settings())

    assert [finding.verdict for finding in findings] == ["problem", "problem"]
    assert "no_such_package is not installed" in findings[0].message
    assert "*.gguf" in findings[1].message


def test_faults_of_the_settings_are_findings_and_the_exit_code_is_one(tmp_path: Path) -> None:
    config = tmp_path / "sluicegate.toml"
    config.write_text("[server]\nprot = 1\nport = 70000\n")

    result = CliRunner().invoke(main, ["doctor", "--config", str(config), "--json"])

    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert value["ok"] is False
    problems = [finding for finding in value["findings"] if finding["verdict"] == "problem"]
    assert [finding["check"] for finding in problems] == ["settings", "settings"]
    assert problems[0]["mend"] == 'did you mean "port"?'


def test_a_machine_in_order_is_told_so(tmp_path: Path) -> None:
    config = tmp_path / "sluicegate.toml"
    with scripted_upstream("steady") as upstream:
        config.write_text(f'[server]\nport = 0\n[[backends]]\nname = "gpu"\nkind = "openai"\nurl = "{upstream.url}"\n')
        result = CliRunner().invoke(main, ["doctor", "--config", str(config), "--data-dir", str(tmp_path / "data")])

    assert result.exit_code == 0, result.output
    assert "All is well." in result.stdout
    assert "serves steady" in result.stdout
