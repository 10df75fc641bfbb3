"""Faults put into the package on purpose: the tests are worth something when they catch each.

    python -m tests.mutants              all of them, with a progress bar (`make mutants`)
    python -m tests.mutants fence        those whose name or file holds the word

Each runs against a copy of the package. A mutant that no test catches is printed, and the exit code is 1. Those of
store and fair queue are here; the others are in tests/lane_mutants.py and tests/upstream_mutants.py.
"""

import sys

from tests.lane_mutants import HTTP_MUTANTS, LANE_MUTANTS
from tests.mutant import Mutant, is_caught
from tests.upstream_mutants import BESIDE_MUTANTS, UPSTREAM_MUTANTS

STORE_SUITES = (
    "tests/contracts/test_store.py",
    "tests/contracts/test_store_recovery.py",
    "tests/contracts/test_store_fairness.py",
    "tests/properties/test_job_store.py",
)
FAIRNESS_SUITES = ("tests/unit/scheduling/test_fairness.py", "tests/properties/test_fairness.py")


def _store(name: str, file: str, before: str, after: str) -> Mutant:
    return Mutant(name, f"storage/sqlite/{file}", before, after, STORE_SUITES, "not postgres")


def _postgres(name: str, file: str, before: str, after: str) -> Mutant:
    return Mutant(name, f"storage/postgres/functions/{file}", before, after, STORE_SUITES, "postgres")


def _fair(name: str, before: str, after: str) -> Mutant:
    return Mutant(name, "scheduling/fairness.py", before, after, FAIRNESS_SUITES)


_WITHDRAWN = 'if row["state"] == "canceling":'
_HELD = "WHERE id = :id AND fence = :fence AND state"
STORE_MUTANTS = (
    _store("a stale fence may write", "sql/job_held.sql", _HELD, "WHERE id = :id AND :fence = :fence AND state"),
    _store("a stale fence is prolonged", "sql/lease_prolong.sql", "fence = :fence", ":fence = :fence"),
    _store("another worker prolongs the lease", "sql/lease_prolong.sql", "worker = :worker", ":worker = :worker"),
    _store("a lost fence is told to go on", "sql/lease_look.sql", "fence = :fence", ":fence = :fence"),
    _store("an ended job may be written", "sql/job_held.sql", "IN ('running', 'canceling')", "IS NOT NULL"),
    _store("the fence stays at a claim", "leasing.py", 'row["fence"] + 1', 'max(row["fence"], 1)'),
    _store("attempts are not counted", "leasing.py", 'row["attempt"] + 1,', 'row["attempt"],'),
    _store("priority is ignored", "sql/queue_head.sql", "ORDER BY priority DESC, id", "ORDER BY id"),
    _store("the newest comes first", "sql/queue_head.sql", "DESC, id", "DESC, id DESC"),
    _store(
        "a tenant's lanes are not compared",
        "fair_queue.py",
        'min((-head["priority"], head["id"]) for',
        'max((-head["priority"], head["id"]) for',
    ),
    _store("late jobs are run", "leasing.py", "if not is_late(session, row):", "if True:"),
    _store(
        "a heartbeat prolongs nothing",
        "sql/lease_prolong.sql",
        "lease_until = :lease_until",
        "lease_until = lease_until",
    ),
    _store("an expired lease is kept", "sql/leases_expired.sql", "lease_until <= :now", "lease_until < 0"),
    _store("a fresh lease is taken back", "sql/leases_expired.sql", "lease_until <= :now", "lease_until > 0"),
    _store("attempts never run out when workers die", "caretaking.py", 'row["attempt"] < row["max_attempts"]', "True"),
    _store(
        "attempts never run out when work fails", "leasing.py", 'and row["attempt"] < row["max_attempts"]', "and True"
    ),
    _store("a withdrawn job is queued again", "caretaking.py", _WITHDRAWN, "if False:"),
    _store(
        "a withdrawn job fails",
        "leasing.py",
        f"{_WITHDRAWN}\n        withdraw(session, row, error, cost=cost)",
        "if False:\n        pass",
    ),
    _store(
        "a withdrawn job is handed back",
        "leasing.py",
        f"{_WITHDRAWN}\n        withdraw(session, row)\n        return True",
        "if False:\n        return True",
    ),
    _store(
        "handing back costs an attempt", "leasing.py", 'row["attempt"] - 1, "preempted"', 'row["attempt"], "preempted"'
    ),
    _store("a retry is due at once", "sql/retries_due.sql", "due_at <= :now", "due_at > 0"),
    _store("a retry is never due", "sql/retries_due.sql", "due_at <= :now", "due_at < 0"),
    _store("waiting past the deadline goes on", "sql/deadlines_passed.sql", "deadline_at <= :now", "deadline_at < 0"),
    _store(
        "event numbers repeat", "sql/event_append.sql", "coalesce(max(seq), 0) + 1", "coalesce(max(seq) - 1, 0) + 1"
    ),
    _store("event numbers have gaps", "sql/event_append.sql", "coalesce(max(seq), 0) + 1", "coalesce(max(seq), 0) + 2"),
    _store("an ended attempt stays open", "sql/attempt_end.sql", "WHERE job = :job AND fence = :fence", "WHERE false"),
    _store("transitions are not checked", "transitions.py", "if to not in TRANSITIONS[start]:", "if False:"),
    _store(
        "progress outlives its attempt", "transitions.py", 'session.change("progress_clear", job=job["id"])', "pass"
    ),
    _store("a dead worker keeps its jobs", "sql/leases_of_worker.sql", "worker = :worker", "worker <> :worker"),
    _store(
        "a key may come with another body", "submission.py", 'if found["digest"] != idempotency.digest:', "if False:"
    ),
)
QUEUE_MUTANTS = (
    _store("who was idle keeps an old tag", "fair_queue.py", "max(standing.vtime, others)", "standing.vtime"),
    _store("the clock does not keep the least tag", "sql/pool_raise.sql", "vtime < :vtime", "vtime < 0.0 * :vtime"),
    _store(
        "a claim is not charged",
        "fair_queue.py",
        'standing.vtime += paid - job["paid"]\n    return {"paid": paid, "weight"',
        'return {"paid": paid, "weight"',
    ),
    _store("weights do not count", "fair_queue.py", 'job["cost"] / standing.weight', 'job["cost"]'),
    _store(
        "what was paid is charged again",
        "fair_queue.py",
        'max(job["cost"] / standing.weight, job["paid"])',
        'job["cost"] / standing.weight + job["paid"]',
    ),
    _store(
        "the estimate stands for ever",
        "fair_queue.py",
        'standing.vtime += paid - job["paid"]\n    return {"paid": paid}',
        'return {"paid": paid}',
    ),
    _store(
        "a refund goes before the others",
        "fair_queue.py",
        'max(standing.vtime - job["paid"], floor)',
        'standing.vtime - job["paid"]',
    ),
    _store("nothing is refunded", "fair_queue.py", 'max(standing.vtime - job["paid"], floor)', "standing.vtime"),
    _store(
        "what is not refunded is forgotten",
        "fair_queue.py",
        'paid = job["paid"] - (standing.vtime - refunded)',
        "paid = 0.0",
    ),
    _store(
        "who gave way keeps its place",
        "fair_queue.py",
        "others + session.policy.setback if preempted",
        "others if preempted",
    ),
    _store("a refund looks at oneself", "sql/lane_least.sql", "AND tenant <> :besides", "AND :besides = :besides"),
    _store("a change of model is free", "fair_queue.py", 'row["vtime"] + session.policy.swap_penalty', 'row["vtime"]'),
    _store("what is loaded does not matter", "fair_queue.py", 'if row["model"] in hot:', "if False:"),
    _store(
        "a tenant's loaded lanes do not go first",
        "fair_queue.py",
        'if lane["model"] in hot] or lanes',
        "if False] or lanes",
    ),
    _store("no lane is ever late", "fair_queue.py", "< session.now - session.policy.lane_wait", "< 0.0"),
    _store(
        "a served lane is as late as before",
        "sql/lane_serve.sql",
        "queued = queued - 1, since = :now",
        "queued = queued - 1",
    ),
    _store("nobody starves", "fair_queue.py", "before = session.now - session.policy.guard", "before = -1.0"),
    _store("the guard acts at every claim", "fair_queue.py", "session.policy.guard_every - 1 if", "0 if"),
    _store("service is not noted", "fair_queue.py", "    standing.since = session.now\n    paid", "    paid"),
    _store(
        "the clock stands still",
        "fair_queue.py",
        'vtime = max(clock["vtime"], least(session, pool))',
        'vtime = clock["vtime"]',
    ),
    _store("a cap does not hold", "fair_queue.py", "self.running < self.max_running", "True"),
    _store(
        "a cap lets one more run",
        "fair_queue.py",
        "self.running < self.max_running",
        "self.running <= self.max_running",
    ),
    _store(
        "lanes are not told",
        "sql/lanes_follow.sql",
        "SET ready = :ready, vtime = :vtime,",
        "SET ready = :ready, vtime = vtime,",
    ),
    _store(
        "lanes do not learn of service",
        "sql/lanes_follow.sql",
        "tenant_since = :tenant_since WHERE",
        "tenant_since = tenant_since WHERE",
    ),
    _store("pools share their tenants", "sql/queue_head.sql", "AND pool = :pool AND", "AND :pool = :pool AND"),
    _store("a bound lets one more wait", "submission.py", "waiting >= most", "waiting > most"),
    _store("waiting work is not bounded", "submission.py", "work > most_cost", "False"),
    _store(
        "back-off does not count as waiting", "submission.py", "standing.queued + standing.delayed,", "standing.queued,"
    ),
    _store("work that left is still counted", "fair_queue.py", 'standing.queued_cost -= job["cost"]', "pass"),
    _store(
        "the ledger has the estimate",
        "transitions.py",
        "_enter(session, job, cost)\n    fair_queue.keep",
        '_enter(session, job, job["cost"])\n    fair_queue.keep',
    ),
    _store("withdrawn work is free", "leasing.py", "withdraw(session, row, cost=cost)", "withdraw(session, row)"),
    _store("estimates do not learn", "leasing.py", "kappa=kappa)", "kappa=1.0)"),
    _store("all work gives way", "sql/job_preempt.sql", "AND preemptible = 1", ""),
    _store("work gives way for ever", "sql/job_preempt.sql", "preemptions < :most", "preemptions < :most + 1"),
    _store("giving way is not counted", "leasing.py", 'row["preemptions"] + int(preempted)', 'row["preemptions"]'),
    _store(
        "an outage does not count",
        "sql/leases_prolong.sql",
        "SET lease_until = :until",
        "SET lease_until = lease_until",
    ),
)
POSTGRES_MUTANTS = (
    _postgres(
        "PostgreSQL: a stale fence may write", "transitions.sql", "job.fence = (operation->>'fence')::bigint", "true"
    ),
    _postgres("PostgreSQL: a stale fence is prolonged", "leasing.sql", "job.fence = (beat->>1)::bigint", "true"),
    _postgres("PostgreSQL: a change of model is free", "claiming.sql", "first.vtime + swap_penalty", "first.vtime"),
    _postgres("PostgreSQL: no lane is ever late", "claiming.sql", "lane.since < late DESC,", "lane.since < late ASC,"),
    _postgres(
        "PostgreSQL: who was idle keeps an old tag", "standing.sql", "RETURN greatest(tag, others);", "RETURN tag;"
    ),
    _postgres(
        "PostgreSQL: the clock does not keep the least tag",
        "standing.sql",
        "SET vtime = others",
        "SET vtime = pool.vtime",
    ),
    _postgres("PostgreSQL: who gave way keeps its place", "standing.sql", "+ setback);", ");"),
    _postgres(
        "PostgreSQL: what is not refunded is forgotten",
        "transitions.sql",
        "left_paid := held.paid - (standing.vtime - refunded)",
        "left_paid := 0.0",
    ),
    _postgres(
        "PostgreSQL: a bound lets one more wait",
        "submission.sql",
        "standing.queued + standing.delayed >=",
        "standing.queued + standing.delayed >",
    ),
    _postgres(
        "PostgreSQL: work gives way for ever", "leasing.sql", "job.preemptions < (operation->>'most')::integer", "true"
    ),
    _postgres("PostgreSQL: estimates do not learn", "leasing.sql", "rate * (dearer - calibration.kappa)", "0.0"),
)
FAIRNESS_MUTANTS = (
    _fair("a swap costs nothing", "self.policy.swap_penalty if cold else 0.0", "0.0"),
    _fair("a swap is never worth it", "self.policy.swap_penalty if cold else 0.0", "1e9 if cold else 0.0"),
    _fair("the loaded models do not matter", "model in loaded and model in models", "model in models"),
    _fair("weights are ignored", "max(job.cost / account.weight, job.paid)", "max(job.cost, job.paid)"),
    _fair("credit is lost at the next run", "account.vtime += charge - job.paid", "account.vtime += charge"),
    _fair("a claim is free", "account.vtime += charge - job.paid", "pass"),
    _fair("idle tenants keep their old tag", "max(account.vtime, least)", "account.vtime"),
    _fair("who returns loses what it is ahead", "max(account.vtime, least)", "least"),
    _fair("the clock does not keep V", "self.vtime = max(self.vtime, least)", "pass"),
    _fair("only idle tenants come back level", "if account.ready and not was_ready", "if not was_ready"),
    _fair("the tag falls when one joins", "if account.ready and not was_ready", "if account.ready"),
    _fair("the clock stands still", "self.vtime = max(self.vtime, self.least())", "pass"),
    _fair(
        "the clock runs with the dearest",
        "self.vtime = max(self.vtime, self.least())",
        "self.vtime = max(a.vtime for a in self.accounts.values())",
    ),
    _fair("the guard never acts", "if self.guard_in > 0:", "if True:"),
    _fair("the guard always acts", "if self.guard_in > 0:", "if False:"),
    _fair("the guard ages nobody", "account.lanes[job.model].since = account.since = now", "pass"),
    _fair(
        "the guard's line is by tag", "min(((self.accounts[name].since, name)", "min(((self.accounts[name].vtime, name)"
    ),
    _fair("late lanes wait on", "if late:", "if False:"),
    _fair("the last of the late lanes is first", "min(late)", "max(late)"),
    _fair("priority in a lane is upside down", "return (-self.priority, self.id)", "return (self.priority, self.id)"),
    _fair("the estimate is the price", "account.vtime += actual / job.weight - job.paid", "pass"),
    _fair(
        "settlement is by today's weight",
        "account.vtime += actual / job.weight - job.paid",
        "account.vtime += actual / account.weight - job.paid",
    ),
    _fair("lost work is charged again", "refunded = max(account.vtime - job.paid, floor)", "refunded = account.vtime"),
    _fair(
        "a refund leads behind the others",
        "max(account.vtime - job.paid, floor)",
        "max(account.vtime - job.paid, 0.0)",
    ),
    _fair("who gave way keeps its place", "least + self.policy.setback if preempted", "least if preempted"),
    _fair("what is refunded stays paid", "job.paid -= account.vtime - refunded", "pass"),
    _fair(
        "what cannot be refunded is lost",
        "job.paid -= account.vtime - refunded",
        "job.paid = 0.0",
    ),
    _fair("caps are ignored", "(self.max_running is None or self.running < self.max_running)", "True"),
    _fair("caps are one too high", "self.running < self.max_running", "self.running <= self.max_running"),
    _fair("a place under the cap is never free again", "account.running -= 1", "pass"),
    _fair("a withdrawn job stays in its lane", "self._pull(self.accounts[job.tenant], job)", "pass"),
    _fair("a withdrawn job keeps what it paid", "job)\n        self._refund(job)", "job)"),
    _fair("workers are given what they do not serve", "if model in models}", "}"),
    _fair("empty lanes stay", "del account.lanes[job.model]", "pass"),
)
MUTANTS = (
    *STORE_MUTANTS,
    *QUEUE_MUTANTS,
    *POSTGRES_MUTANTS,
    *FAIRNESS_MUTANTS,
    *HTTP_MUTANTS,
    *LANE_MUTANTS,
    *UPSTREAM_MUTANTS,
    *BESIDE_MUTANTS,
)


def main() -> int:
    """Run the mutants that the arguments name; how many survived, as an exit code."""
    from rich.console import Console
    from rich.progress import track

    console = Console()
    chosen = [each for each in MUTANTS if all(word in each.name or word in each.file for word in sys.argv[1:])]
    survivors = []
    for mutant in track(chosen, "mutants", console=console):
        if not is_caught(mutant):
            survivors.append(mutant)
            console.print(f"[red]survived[/red] {mutant.name} ({mutant.file})")
    console.print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
