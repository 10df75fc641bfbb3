"""Hold what a server did against what a case allows."""

import json

from tests.corpus.answers import Answer
from tests.corpus.case import Case
from tests.corpus.conversation import Outcome


def faults(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with an outcome of ours; nothing when it is as it must be."""
    if case.verdict == "serve":
        shape = _not_served(case, outcome)
    elif case.verdict == "refuse":
        shape = _not_refused(case, outcome)
    else:
        shape = _not_served(case, outcome) and _not_refused(case, outcome)
    return [*shape, *_never(outcome), *(fault for answer in outcome.answers for fault in _manners(answer))]


def _not_served(case: Case, outcome: Outcome) -> list[str]:
    found: list[str] = []
    due = len(case.before) + (0 if case.silent else 1)
    if len(outcome.answers) != due:
        found.append(f"answers {_said(outcome)}; {due} due")
    elif outcome.statuses[: len(case.before)] != case.before:
        found.append(f"answers {_said(outcome)}; first {list(case.before)}")
    elif not case.silent and outcome.statuses[-1] not in case.served:
        found.append(f"answers {_said(outcome)}; the last one of {sorted(case.served)}")
    elif case.says not in (outcome.answers[-1].body if outcome.answers else b""):
        found.append(f"the answer lacks {case.says!r}: {outcome.answers[-1].body[:200]!r}")
    if outcome.interim and not _may_continue(case):
        found.append(f"interim answers {list(outcome.interim)} that nobody expects")
    if case.after == "open" and not outcome.marked:
        found.append("the connection takes no further request")
    if case.after == "closed" and outcome.marked:
        found.append("the connection stays open")
    return found


def _may_continue(case: Case) -> bool:
    """RFC 9110 §10.1.1: 100 is for those who expect it, and HTTP/1.0 does not know it."""
    sent = b"".join(case.pieces).lower()
    return b"expect: 100-continue" in sent and b"http/1.1" in sent


def _not_refused(case: Case, outcome: Outcome) -> list[str]:
    found: list[str] = []
    before = len(case.before)
    good, last = outcome.statuses[:before], outcome.statuses[before:]
    # A sender that has ended may have left: then answers may be missing.
    if good != case.before[: len(good)] or (len(good) < before and not case.cut):
        found.append(f"answers {_said(outcome)}; first {list(case.before)}")
    if not (last == () and case.cut) and not (len(last) == 1 and last[0] in case.refused):
        found.append(f"answers {_said(outcome)}; one refusal of {sorted(case.refused)} due")
    if outcome.marked:
        found.append("the connection stays open after a refusal")
    if outcome.interim:
        found.append(f"interim answers {list(outcome.interim)} before a refusal")
    return found


def _never(outcome: Outcome) -> list[str]:
    found: list[str] = []
    if outcome.waited:
        found.append("it waits for bytes that never come")
    if not outcome.ended:
        found.append("the connection is never closed")
    if outcome.smuggled:
        found.append("a hidden request was answered")
    if outcome.junk:
        found.append(f"bytes that are no answer: {outcome.junk[:200]!r}")
    if set(outcome.interim) - {100}:
        found.append(f"interim answers {list(outcome.interim)}")
    return found


def _manners(answer: Answer) -> list[str]:
    """An answer of 5xx but 501 and 505, one without an id, and an error that is no JSON in a dialect of ours."""
    found: list[str] = []
    if answer.status >= 500 and answer.status not in (501, 505):
        found.append(f"status {answer.status}: {answer.body[:200]!r}")
    if not answer.fields.get("x-request-id"):
        found.append(f"the {answer.status} has no X-Request-Id")
    if "smuggled" in answer.fields.get("x-request-id", "") or "x-evil" in answer.fields:
        found.append("the answer's fields repeat what the caller injected")
    if answer.status >= 400 and answer.body and not _is_problem(answer):
        found.append(f"the {answer.status} is no problem in a dialect: {answer.body[:200]!r}")
    if answer.status >= 400 and not answer.body and answer.fields.get("content-length", "0") == "0":
        found.append(f"the {answer.status} says nothing")
    return found


def _is_problem(answer: Answer) -> bool:
    if "json" not in answer.fields.get("content-type", ""):
        return False
    try:
        problem = json.loads(answer.body)
    except ValueError:
        return False
    return isinstance(problem, dict) and ("error" in problem or "code" in problem)


def _said(outcome: Outcome) -> str:
    return str(list(outcome.statuses))
