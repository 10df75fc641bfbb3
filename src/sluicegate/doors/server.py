"""The server: every door behind one port.

request  ▶  id  ▶  route  ▶  gate  ▶  handler  ▶  answer      errors in the door's dialect; one log line; metrics
"""

import asyncio
import difflib
import time
from collections.abc import Collection, Mapping, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluicegate.admission.gate import Gate
from sluicegate.domain.ids import request_id_of
from sluicegate.doors.endpoint import ENDPOINT_KEY, UNMATCHED, BodyLimits, Endpoint, EndpointApp
from sluicegate.doors.problems import Dialect, dialect_of, render_problem, unforeseen
from sluicegate.doors.websocket_endpoint import WebSocketEndpoint, WebSocketEndpointApp
from sluicegate.errors import Draining, MethodNotAllowed, SluicegateError, UnknownRoute
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.logs import Log, request_id
from sluicegate.observability.metrics import Metrics

_HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_access = Log("sluicegate.access")


class _Recorder:
    """Watches an answer go out: its status, whether it has begun; adds the request id."""

    def __init__(self, send: Send, identifier: str) -> None:
        self._send = send
        self._identifier = identifier.encode("latin-1")
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] in _HEADS:
            self.status = message.get("status", 101)
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._identifier)]
        await self._send(message)


class Observed:
    """The outermost layer: request id, errors into answers, access log, metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics, access_log: AccessLog) -> None:
        self._app = app
        self._metrics = metrics
        self._access = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket to its end."""
        identifier = scope["sluicegate.request_id"] = _identifier(scope)
        token = request_id.set(identifier)
        recorder = _Recorder(send, identifier)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, recorder)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            # The server ends what outlasts its shutdown; a caller who still waits for a head gets one.
            if recorder.status:
                raise
            await self._fail(Draining("this gateway is stopping", retry_after=2), scope, receive, recorder)
        except Exception as error:  # the last line of defence: no traceback reaches a caller
            await self._fail(error, scope, receive, recorder)
        finally:
            self._record(scope, recorder.status, time.perf_counter() - started)
            request_id.reset(token)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, recorder: _Recorder) -> None:
        if not isinstance(error, SluicegateError):
            _access.error("request failed", trace=True, route=_route(scope))
            error = unforeseen()
        if recorder.status:
            raise error
        endpoint: Endpoint | None = scope.get(ENDPOINT_KEY)
        dialect: Dialect = endpoint.dialect if endpoint else dialect_of(scope["path"])
        response = render_problem(error, dialect, scope["sluicegate.request_id"])
        await response(scope, receive, recorder)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), _method(scope)
        # 499, as nginx has it: the caller left before an answer
        status = status or 499
        self._metrics.requests.labels(method, route, str(status)).value += 1
        if status != 101:
            # How long a WebSocket is open says nothing of how fast we answer.
            self._metrics.request_seconds.labels(method, route).observe(seconds)
        tenant = scope.get("sluicegate.tenant", "-")
        self._access.request(tenant, method, route, status, seconds, scope["sluicegate.request_id"])


def _identifier(scope: Scope) -> str:
    return request_id_of(next((value for name, value in scope["headers"] if name == b"x-request-id"), b""))


def _route(scope: Scope) -> str:
    endpoint: Endpoint | None = scope.get(ENDPOINT_KEY)
    return endpoint.template if endpoint else UNMATCHED


def _method(scope: Scope) -> str:
    method: str = scope.get("method", "GET")
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "OTHER"


def build_server(
    endpoints: Sequence[Endpoint],
    gate: Gate,
    metrics: Metrics,
    access_log: AccessLog,
    *,
    max_body_bytes: int,
    client_idle_seconds: float,
    cors_origins: Collection[str] = (),
    sockets: Sequence[WebSocketEndpoint] = (),
) -> ASGIApp:
    """Put the endpoints and WebSockets behind one ASGI application."""
    limits = BodyLimits(max_bytes=max_body_bytes, idle_seconds=client_idle_seconds)
    by_path: dict[str, dict[str, EndpointApp]] = {}
    for endpoint in (*(socket.page() for socket in sockets), *endpoints):
        by_path.setdefault(endpoint.path, {})[endpoint.method] = EndpointApp(endpoint, gate, limits)
    routes: list[BaseRoute] = [Route(path, endpoint=_Methods(apps)) for path, apps in by_path.items()]
    routes += [WebSocketRoute(socket.path, endpoint=WebSocketEndpointApp(socket, gate)) for socket in sockets]
    app: ASGIApp = Router(routes, redirect_slashes=False, default=_Unmatched(list(by_path)))
    observed = Observed(app, metrics, access_log)
    if not cors_origins:
        return observed
    # Outside of what renders errors, so that pages of these origins can read them too.
    return CORSMiddleware(
        observed,
        allow_origins=list(cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["X-Request-Id", "Location", "Retry-After"],
    )


class _Methods:
    """One path: chooses the endpoint by method. HEAD is answered as GET without a body; OPTIONS tells the methods."""

    def __init__(self, apps: Mapping[str, EndpointApp]) -> None:
        self._apps = apps
        self._allow = ", ".join(sorted({*apps, "OPTIONS", *(["HEAD"] if "GET" in apps else [])}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        app = self._apps.get("GET" if method == "HEAD" else method)
        if app is not None:
            await app(scope, receive, send)
            return
        scope[ENDPOINT_KEY] = next(iter(self._apps.values())).endpoint
        if method == "OPTIONS":
            await Response(status_code=204, headers={"allow": self._allow})(scope, receive, send)
            return
        raise MethodNotAllowed(
            f"{method[:20]} is not allowed on {scope['path'][:100]}; allowed: {self._allow}",
            headers={"allow": self._allow},
        )


class _Unmatched:
    """No route has this path: says so, with the nearest one."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = sorted(set(paths))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"][:100]
        if path == "*":  # RFC 9110, section 9.3.7: the server as a whole
            await Response(status_code=204, headers={"allow": "GET, HEAD, POST, DELETE, OPTIONS"})(scope, receive, send)
            return
        near = difflib.get_close_matches(path, self._paths, n=1, cutoff=0.6)
        mend = f'did you mean "{near[0]}"?' if near else "see /docs for all routes"
        raise UnknownRoute(f'no route "{path}"; {mend}')
