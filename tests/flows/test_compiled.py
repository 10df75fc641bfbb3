"""The package as it is released: its chat lane compiled, held to the same tests as its sources."""

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from shutil import which

import pytest
from bench.wheel import compiled_package

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES: list[str] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
UNITS = [
    "tests/unit/admission",
    "tests/unit/backends/upstream",
    "tests/unit/backends/test_openai_backend.py",
    "tests/unit/domain",
    "tests/unit/doors",
    "tests/unit/observability",
    "tests/unit/scheduling/test_balancer.py",
    "tests/unit/scheduling/test_balancer_edges.py",
    "tests/unit/wire",
    # These inherit from what is compiled.
    "--ignore=tests/unit/backends/upstream/test_pool.py",
    "--ignore=tests/unit/doors/ollama/test_silence.py",
]
RELAYED = [
    "tests/properties/test_http_parser.py",
    "tests/properties/test_lane.py",
    "tests/properties/test_repeated_heads.py",
    "tests/properties/test_token_scan.py",
    "tests/properties/test_upstream_connection.py",
    "tests/flows/test_chat.py",
    "tests/flows/test_chat_socket.py",
]
_REFLECTED = ("Struct", "NamedTuple", "TypedDict", "Exception", "Error")

can_compile = pytest.mark.skipif(
    which(str(sysconfig.get_config_var("CC") or "cc").split()[0]) is None
    or not (Path(sysconfig.get_path("include")) / "Python.h").is_file(),
    reason="there is no C compiler, or Python's headers are not installed (apt install gcc python3-dev)",
)


@pytest.fixture(scope="module")
def package() -> Path:
    """Where the compiled package is imported from."""
    return compiled_package(ROOT)


def run(package: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Python with the compiled package in front of the sources."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@can_compile
@pytest.mark.timeout(600)
def test_all_that_a_chat_call_runs_through_is_compiled(package: Path) -> None:
    words = f"import importlib; print([importlib.import_module(name).__file__ for name in {MODULES}])"
    done = run(package, "-c", words)
    assert done.returncode == 0, done.stderr
    files = [Path(file) for file in ast.literal_eval(done.stdout)]
    assert {file.suffix for file in files} <= {".so", ".pyd"}
    assert all(package in file.parents for file in files)


@can_compile
@pytest.mark.timeout(600)
@pytest.mark.parametrize("paths", [UNITS, RELAYED], ids=["units", "flows"])
def test_the_compiled_lane_passes_the_tests_of_its_sources(package: Path, paths: list[str]) -> None:
    done = run(package, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *paths)
    assert done.returncode == 0, done.stdout[-8_000:]


def classes(module: str) -> list[ast.ClassDef]:
    """The classes that a module defines."""
    source = ROOT / "src" / Path(*module.split("."))
    tree = ast.parse(source.with_suffix(".py").read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def bases(kind: ast.ClassDef) -> set[str]:
    """The names of what a class inherits from, without their modules."""
    return {ast.unparse(base).split("[")[0].rpartition(".")[2] for base in kind.bases}


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_has_no_class_that_is_asked_what_it_looks_like(module: str) -> None:
    """mypyc drops the annotations that msgspec reads, and hides class attributes that are read of an instance."""
    for kind in classes(module):
        assert not any(base.endswith(_REFLECTED) for base in bases(kind)), f"move {kind.name} elsewhere"
        assert not kind.decorator_list, f"move {kind.name} elsewhere: it is decorated"
        valued = [
            ast.unparse(node)
            for node in kind.body
            if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "__slots__")
            or (isinstance(node, ast.AnnAssign) and node.value is not None)
        ]
        assert not valued, f"move {kind.name} elsewhere: it has {valued}"


def test_nothing_inherits_from_a_compiled_class_unless_it_is_compiled_too() -> None:
    compiled = {kind.name for module in MODULES for kind in classes(module) if "Protocol" not in bases(kind)}
    for path in sorted((ROOT / "src").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if module not in MODULES:
            heirs = [kind.name for kind in classes(module) if bases(kind) & compiled]
            assert not heirs, f"compile {module}, or let {heirs} inherit from nothing that is compiled"
