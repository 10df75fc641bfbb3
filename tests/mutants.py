"""Faults put into the rules of the store on purpose: the tests are worth something when they catch each.

    python -m tests.mutants              all of them, with a progress bar (`make mutants`)
    python -m tests.mutants fence        those whose name holds the word

Each runs against a copy of the package. A mutant that no test catches is printed, and the exit code is 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "sluicegate"
STORE = Path("storage/sqlite")
SUITES = (
    "tests/contracts/test_store.py",
    "tests/contracts/test_store_recovery.py",
    "tests/properties/test_job_store.py",
)


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the first `before` becomes `after`."""

    name: str
    file: str
    before: str
    after: str


_WITHDRAWN = 'if row["state"] == "canceling":'
_HELD = "WHERE id = :id AND fence = :fence AND state"
MUTANTS = (
    Mutant("a stale fence may write", "sql/job_held.sql", _HELD, "WHERE id = :id AND :fence = :fence AND state"),
    Mutant("a stale fence is prolonged", "sql/lease_prolong.sql", "fence = :fence", ":fence = :fence"),
    Mutant("another worker prolongs the lease", "sql/lease_prolong.sql", "worker = :worker", ":worker = :worker"),
    Mutant("a lost fence is told to go on", "sql/lease_look.sql", "fence = :fence", ":fence = :fence"),
    Mutant("an ended job may be written", "sql/job_held.sql", "IN ('running', 'canceling')", "IS NOT NULL"),
    Mutant("the fence stays at a claim", "leasing.py", 'row["fence"] + 1', 'max(row["fence"], 1)'),
    Mutant("attempts are not counted", "leasing.py", 'row["attempt"] + 1,', 'row["attempt"],'),
    Mutant("priority is ignored", "sql/queue_head.sql", "ORDER BY priority DESC, id", "ORDER BY id"),
    Mutant("the newest comes first", "sql/queue_head.sql", "DESC, id", "DESC, id DESC"),
    Mutant(
        "models' lanes are not compared",
        "leasing.py",
        'min(heads, key=lambda head: (-head["priority"], head["id"]))',
        "heads[-1]",
    ),
    Mutant("late jobs are run", "leasing.py", "if not is_late(session, row):", "if True:"),
    Mutant(
        "a heartbeat prolongs nothing",
        "sql/lease_prolong.sql",
        "lease_until = :lease_until",
        "lease_until = lease_until",
    ),
    Mutant("an expired lease is kept", "sql/leases_expired.sql", "lease_until <= :now", "lease_until < 0"),
    Mutant("a fresh lease is taken back", "sql/leases_expired.sql", "lease_until <= :now", "lease_until > 0"),
    Mutant("attempts never run out when workers die", "caretaking.py", 'row["attempt"] < row["max_attempts"]', "True"),
    Mutant(
        "attempts never run out when work fails", "leasing.py", 'and row["attempt"] < row["max_attempts"]', "and True"
    ),
    Mutant("a withdrawn job is queued again", "caretaking.py", _WITHDRAWN, "if False:"),
    Mutant(
        "a withdrawn job fails",
        "leasing.py",
        f"{_WITHDRAWN}\n        withdraw(session, row, error)",
        "if False:\n        pass",
    ),
    Mutant(
        "a withdrawn job is handed back",
        "leasing.py",
        f"{_WITHDRAWN}\n        withdraw(session, row)\n        return True",
        "if False:\n        return True",
    ),
    Mutant("handing back costs an attempt", "leasing.py", 'number = row["attempt"] - 1', 'number = row["attempt"]'),
    Mutant("a retry is due at once", "sql/retries_due.sql", "due_at <= :now", "due_at > 0"),
    Mutant("a retry is never due", "sql/retries_due.sql", "due_at <= :now", "due_at < 0"),
    Mutant("waiting past the deadline goes on", "sql/deadlines_passed.sql", "deadline_at <= :now", "deadline_at < 0"),
    Mutant(
        "event numbers repeat", "sql/event_append.sql", "coalesce(max(seq), 0) + 1", "coalesce(max(seq) - 1, 0) + 1"
    ),
    Mutant("event numbers have gaps", "sql/event_append.sql", "coalesce(max(seq), 0) + 1", "coalesce(max(seq), 0) + 2"),
    Mutant("an ended attempt stays open", "sql/attempt_end.sql", "WHERE job = :job AND fence = :fence", "WHERE false"),
    Mutant("transitions are not checked", "transitions.py", "if to not in TRANSITIONS[start]:", "if False:"),
    Mutant(
        "progress outlives its attempt", "transitions.py", 'session.change("progress_clear", job=job["id"])', "pass"
    ),
    Mutant("a dead worker keeps its jobs", "sql/leases_of_worker.sql", "worker = :worker", "worker <> :worker"),
    Mutant(
        "a key may come with another body", "submission.py", 'if found["digest"] != idempotency.digest:', "if False:"
    ),
)


def is_caught(mutant: Mutant, suites: tuple[str, ...] = SUITES) -> bool:
    """Whether a test fails on the mutant. Raises `ValueError` when there is nothing to change."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "sluicegate"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "local_image", "cli", "doors"))
        file = copy / STORE / mutant.file
        text = file.read_text("utf-8")
        if mutant.before not in text:
            raise ValueError(f'mutant "{mutant.name}": {mutant.file} no longer holds "{mutant.before}"')
        file.write_text(text.replace(mutant.before, mutant.after, 1), "utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
        command += suites
        environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise ValueError(f'mutant "{mutant.name}": the tests could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.returncode == 1


def main() -> int:
    """Run the mutants that the arguments name; how many survived, as an exit code."""
    from rich.console import Console
    from rich.progress import track

    console = Console()
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    survivors = []
    for mutant in track(chosen, "mutants", console=console):
        if not is_caught(mutant):
            survivors.append(mutant)
            console.print(f"[red]survived[/red] {mutant.name} ({mutant.file})")
    console.print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
