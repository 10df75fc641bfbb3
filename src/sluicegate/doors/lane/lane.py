"""The hot routes: from a whole request to a running call."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from sluicegate.admission.gate import Gate
from sluicegate.domain.ids import new_request_id, request_id_of
from sluicegate.doors.endpoint import UNMATCHED
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.doors.lane.http_call import HttpCall
from sluicegate.doors.lane.orders import HotRoute, Reply
from sluicegate.doors.problems import dialect_of, render_error, unforeseen
from sluicegate.errors import SluicegateError
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.logs import Log
from sluicegate.observability.metrics import Metrics
from sluicegate.observability.series import Spread, Tally
from sluicegate.scheduling.balancer import Balancer
from sluicegate.wire.wheel import Wheel

_log = Log("sluicegate.lane")


class ModelTallies:
    """What is counted for one model."""

    __slots__ = ("first_token", "inference", "tokens")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.first_token: Spread = metrics.first_token_seconds.labels(model)
        self.inference: Spread = metrics.inference_seconds.labels(model)
        self.tokens: Tally = metrics.tokens.labels(model)


class Lane:
    """Serves the hot routes of one process, and carries what their calls share."""

    def __init__(
        self,
        *,
        gate: Gate,
        balancer: Balancer,
        exchanges: Exchanges,
        metrics: Metrics,
        access_log: AccessLog,
        wheel: Wheel,
        cors_origins: Collection[str] = (),
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.balancer = balancer
        self.exchanges = exchanges
        self.metrics = metrics
        self.wheel = wheel
        self._gate = gate
        self._access_log = access_log
        self._cors_origins = frozenset(origin.rstrip("/").lower().encode("latin-1") for origin in cors_origins)
        self._routes: Mapping[bytes, HotRoute] = {}
        self.models: dict[str, ModelTallies] = {}
        """See `tallies_of`."""
        self._counts: dict[tuple[str, int], tuple[Tally, Spread]] = {}

    def serve_routes(self, routes: Sequence[HotRoute]) -> None:
        """Take these routes, and no others."""
        self._routes = {route.path.encode("ascii"): route for route in routes}

    def is_hot(self, request: Request) -> bool:
        """Whether the request is for one of the routes; its path is then written as the route's."""
        if b"%" in request.path and unquote_to_bytes(request.path) in self._routes:
            request.path = unquote_to_bytes(request.path)
        return request.path in self._routes and request.method == b"POST"

    def admit(self, request: Request) -> None:
        """Say on whose behalf the request acts. Raises as `Gate.admit` does."""
        request.principal = self._gate.admit_fields(request.fields)

    def respond(self, connection: HttpConnection, request: Request) -> HttpCall | None:
        """Begin to answer; None when all is answered already."""
        route = self._routes[request.path]
        fields = request.fields
        request_id = request_id_of(fields[b"x-request-id"]) if b"x-request-id" in fields else new_request_id()
        call = HttpCall(self, connection, request, route, request_id)
        try:
            principal = request.principal or self._gate.admit_fields(fields)
            call.tenant = principal.tenant
            order = route.order(request, principal, request_id)
            if isinstance(order, Reply):
                call.reply(order)
            else:
                call.start(order)
        except SluicegateError as error:
            call.refuse(error)
        except Exception:
            _log.error("request failed", trace=True, route=route.path, request_id=request_id)
            call.refuse(unforeseen())
        return None if call.is_over else call

    def refusal(self, error: SluicegateError, request: Request | None) -> tuple[int, dict[str, str], bytes]:
        """The answer for a request that was refused before anyone answered it; it is counted and logged."""
        path = request.path.decode("latin-1") if request is not None else "/"
        request_id = request_id_of(request.fields.get(b"x-request-id", b"") if request is not None else b"")
        status, headers, body = render_error(error, dialect_of(path), request_id)
        is_route = request is not None and self.is_hot(request)
        route, method = (path, "POST") if is_route else (UNMATCHED, "OTHER")
        self.metrics.requests.labels(method, route, str(status)).value += 1
        self._access_log.request("-", method, route, status, 0.0, request_id)
        origin = request.fields.get(b"origin") if request is not None else None
        return status, {**headers, **self._cors_headers(origin), "x-request-id": request_id}, body

    def tallies_of(self, model: str) -> ModelTallies:
        """What is counted for the model, which a backend serves."""
        tallies = self.models.get(model)
        if tallies is None:
            tallies = self.models[model] = ModelTallies(self.metrics, model)
        return tallies

    def record(
        self, route: str, tenant: str, status: int, seconds: float, request_id: str, *, method: str = "POST"
    ) -> None:
        """Count and log an answered request."""
        bound = self._counts.get((route, status))
        if bound is None:
            requests = self.metrics.requests.labels(method, route, str(status))
            bound = self._counts[route, status] = (requests, self.metrics.request_seconds.labels(method, route))
        bound[0].value += 1
        bound[1].observe(seconds)
        self._access_log.request(tenant, method, route, status, seconds, request_id)

    def cors_lines(self, origin: bytes) -> bytes:
        """What lets pages of an allowed origin read the answer."""
        headers = self._cors_headers(origin)
        return b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items()])

    def _cors_headers(self, origin: bytes | None) -> dict[str, str]:
        if origin is None or origin.rstrip(b"/").lower() not in self._cors_origins:
            return {}
        return {
            "access-control-allow-origin": origin.decode("latin-1"),
            "vary": "Origin",
            "access-control-expose-headers": "X-Request-Id, Location, Retry-After",
        }
