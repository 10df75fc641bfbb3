"""What the processes of one supervisor tell and ask each other.

gateway ──asks──▶ supervisor ──asks──▶ every gateway        MetricsWanted, CancelWanted; ProcessesWanted ends here
gateway, plant ──tell──▶ supervisor                         MetricsTold, once a second
plant ──tells──▶ supervisor ──tells──▶ every gateway        PlantTold, at each change
"""

from typing import Literal

import msgspec

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.tallies import MetricsDump
from sluicegate.supervision import Change


class MetricsWanted(msgspec.Struct, frozen=True, tag=True):
    """Your metrics now: of a gateway its own, of the supervisor those of all. Answered by `MetricsTold`."""


class CancelWanted(msgspec.Struct, frozen=True, tag=True):
    """Stop a tenant's chat call if you have it. Answered by `CancelTold`."""

    tenant: Tenant
    request_id: RequestId


class ProcessesWanted(msgspec.Struct, frozen=True, tag=True):
    """How is every process? Answered by `ProcessesTold`."""


class MetricsTold(msgspec.Struct, frozen=True, tag=True):
    """Metrics; as news, the sender's own."""

    dump: MetricsDump
    serial: int = 0
    """Grows with each telling of one sender: news may overtake an answer."""


class CancelTold(msgspec.Struct, frozen=True, tag=True):
    """Whether the call was there, and so is stopped now."""

    found: bool


class ProcessesTold(msgspec.Struct, frozen=True, tag=True):
    """Every process of the supervisor."""

    processes: tuple[ProcessHealth, ...]


class Whereabouts(msgspec.Struct, frozen=True):
    """A built-in chat model: how its process is, and the key that it asks for."""

    backend: str
    change: Change
    key: str = ""


class PlantTold(msgspec.Struct, frozen=True, tag=True):
    """How the models stand that run once for all gateways."""

    models: tuple[Whereabouts, ...] = ()
    workers_start: bool = False
    """Whether a picture worker is starting."""


Question = MetricsWanted | CancelWanted | ProcessesWanted
Answer = MetricsTold | CancelTold | ProcessesTold
News = MetricsTold | PlantTold


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """What is sent. An answer has the ticket of its question."""

    kind: Literal["question", "answer", "news"]
    ticket: int
    body: Question | Answer | News
