"""Faults for the connection of a caller and for the lane: framing, turns, limits, retries, cancelling, counting."""

from functools import partial

from tests.mutant import Mutant

_CONNECTION = "tests/unit/doors/http/test_connection.py"
_TURNS = "tests/unit/doors/http/test_turns.py"
_BODIES = "tests/unit/doors/http/test_bodies.py"
_TIMES = "tests/unit/doors/http/test_times.py"
_FAULTS = "tests/unit/doors/http/test_edges.py"
_CORPUS = "tests/wire/test_malformed_requests.py"
_ASGI = "tests/unit/doors/http/test_asgi.py"
_ANSWERS = "tests/unit/doors/http/test_answers.py"
_SERVER = "tests/unit/doors/http/test_server.py"
_ENDINGS = "tests/unit/doors/lane/test_endings.py"
_RELAY = "tests/unit/doors/lane/test_relay_call.py"
_OUTLET = "tests/unit/doors/lane/test_outlet.py"
_EXCHANGES = "tests/unit/doors/lane/test_exchanges.py"
_LANE_FAULTS = "tests/unit/doors/lane/test_edges.py"


def _mutant(file: str, suites: tuple[str, ...], name: str, before: str, after: str) -> Mutant:
    return Mutant(name, file, before, after, suites, "not table" if _CORPUS in suites else "")


_reading = partial(_mutant, "doors/http/reading.py", (_CONNECTION, _BODIES, _TURNS, _FAULTS, _CORPUS))
_request = partial(_mutant, "doors/http/request.py", (_CONNECTION, _BODIES, _FAULTS, _CORPUS))
_connection = partial(_mutant, "doors/http/connection.py", (_TURNS, _TIMES, _BODIES, _CONNECTION, _FAULTS, _ASGI))
_repeats = partial(
    _mutant,
    "doors/http/reading.py",
    ("tests/properties/test_repeated_heads.py", "tests/unit/doors/http/test_posting.py"),
)
_posting = partial(_mutant, "doors/http/connection.py", ("tests/unit/doors/http/test_posting.py", _OUTLET, _ENDINGS))
_answers = partial(_mutant, "doors/http/answers.py", (_ANSWERS, _FAULTS, _ASGI))
_asgi = partial(_mutant, "doors/http/asgi.py", (_ASGI, _FAULTS, _CONNECTION))
_scan = partial(_mutant, "doors/lane/scan.py", (_LANE_FAULTS, "tests/properties/test_token_scan.py"))
_relay = partial(_mutant, "doors/lane/relay_call.py", (_LANE_FAULTS, _RELAY, _ENDINGS, _OUTLET))
_http_call = partial(_mutant, "doors/lane/http_call.py", (_OUTLET, _RELAY, _ENDINGS, _FAULTS, _TURNS))
_exchanges = partial(_mutant, "doors/lane/exchanges.py", (_EXCHANGES,))
_refusals = partial(_mutant, "doors/lane/refusals.py", (_LANE_FAULTS,))
_lane = partial(_mutant, "doors/lane/lane.py", (_OUTLET, _LANE_FAULTS, _FAULTS, _SERVER))

HTTP_MUTANTS = (
    _repeats("a remembered length is told again", "if size != request.size:", "if False:"),
    _repeats("what was judged of one request holds for the next", "request.judged = request.principal = None", "pass"),
    _posting("what is written overtakes what was posted", "if self._posted:\n            self.flush()", "pass"),
    _posting("a connection ends before what was posted", "self.flush()\n        if is_clean", "if is_clean"),
    _posting(
        "an idle connection ends before what was posted",
        "self.flush()\n            self.transport.close",
        "self.transport.close",
    ),
    _posting("who sends nothing more gets nothing more", "self.flush()  # whoever", "pass  # whoever"),
    _posting("a request is remembered with its body", "request.pieces = []  #", "#"),
    _posting("all is written at once", "self.server.outbox.add_answer(self)", "self.flush()"),
    _posting("any amount is posted in one turn", "if len(self._posted) + len(data) > _MOST_POSTED:", "if False:"),
    _posting("what was posted is forgotten", "self._posted += data", "self._posted = data"),
    _reading("an unfinished line has no limit", "if self._head_bytes > MOST_HEAD_BYTES:", "if False:"),
    _reading("each piece of a head is counted anew", "self._head_bytes += len(data)", "self._head_bytes = len(data)"),
    _reading("a head in one piece has no limit", "if self._head_bytes + self._fed > MOST_HEAD_BYTES:", "if False:"),
    _reading(
        "a trailer is taken for a header",
        "if self._head_bytes:\n            self._headers",
        "if True:\n            self._headers",
    ),
    _reading("headers of the request before stay", "self._headers = []\n        self._target", "self._target"),
    _reading(
        "chunks may take any overhead",
        "was_reading.fed - was_reading.size > MOST_OVERHEAD + 8 * was_reading.size",
        "False",
    ),
    _reading("a refused upgrade loses its body", "if request is None or not request.has_body:", "if True:"),
    _reading(
        "a refused upgrade is whole too early",
        "if request is None or request is self._upgrading:",
        "if request is None:",
    ),
    _reading("HTTP/1.0 is kept unasked", "request.keep_alive and parser.should_keep_alive()", "request.keep_alive"),
    _reading(
        "a piece of any size is read at once",
        "size = len(self._later) if is_counted else MOST_AT_ONCE",
        "size = len(self._later)",
    ),
    _reading("all that is sent ahead is parsed", "while self._later and not self.is_busy and", "while self._later and"),
    _request("HTTP/1.0 may be chunked", "if not request.is_11:\n        raise", "if False:\n        raise"),
    _request("any coding before chunked is taken", '.lower() != b"chunked":', '.lower()[-7:] != b"chunked":'),
    _request("a host may be told twice", "if name in seen and name in _ONCE:", "if False:"),
    _request(
        "HTTP/1.1 needs no host",
        'if fields.get(b"host") not in known.hosts:',
        'if fields.get(b"host", b"x") not in known.hosts | {b"x"}:',
    ),
    _request("any host will do", "if not _HOST.fullmatch(host):", "if False:"),
    _request("the Host header beats the address", 'absolute[1] if name == b"host" else value', "value"),
    _request("anything may be expected", 'if fields[b"expect"].lower() != b"100-continue":', "if False:"),
    _request("HTTP/1.0 is told to go on", "request.expects = request.is_11", "request.expects = True"),
    _request(
        "a head has any number of headers", "if len(headers) > MOST_HEADERS:\n        raise", "if False:\n        raise"
    ),
    _request("a body may be one byte too long", "int(declared) > limit", "int(declared) > limit + 1"),
    _request("targets have any characters", "if not _ORIGIN_FORM.fullmatch(target) and", "if False and"),
    _request("every target is remembered", "if len(known) < _MOST_KNOWN and", "if True and"),
    _connection(
        "an unread body begins the next request",
        "keep and request.keep_alive and request.is_whole and",
        "keep and request.keep_alive and",
    ),
    _connection("a request to close is ignored", "keep = keep and request.keep_alive and", "keep = keep and"),
    _connection("an answer that is the last is not", "keep = keep and request.keep_alive", "keep = request.keep_alive"),
    _mutant(
        "doors/http/connection.py",
        (_SERVER,),
        "a closing server keeps connections",
        "request.is_whole and not self.server.is_closing",
        "request.is_whole",
    ),
    _connection("who sends ahead is read on", "if len(self._later) > HIGH_WATER and not self._is_deaf:", "if False:"),
    _connection(
        "idle connections stay",
        "self._deadline = self._loop.time() + self.server.keep_alive_seconds",
        "self._deadline = _NEVER",
    ),
    _connection(
        "who half closes hears nothing",
        "if self._responder is None:\n            return bool(self._queue)",
        "if self._responder is None:\n            return False",
    ),
    _connection("a fault behind an answer is forgotten", "if self._fault is not None and keep:", "if False:"),
    _connection(
        "a stalled caller gets the next answer, too",
        "and not self._is_write_paused and not self._queue:",
        "and not self._queue:",
    ),
    _connection("who may not ask is told to go on", "server.admit(request)", "pass"),
    _connection("the newest request is next", "queue.popleft()", "queue.pop()"),
    _connection("who sent ahead is read no more", "if not queue and not self._is_deaf:", "if False:"),
    _connection("nobody hears that the caller left", "responder.caller_left()", "pass"),
    _connection(
        "a stalled caller is written to",
        "self._responder.pause()\n\n    def resume_writing",
        "pass\n\n    def resume_writing",
    ),
    _connection("who was paused stays so", "self._responder.resume()", "pass"),
    _connection("nobody is told to go on", "self.write(CONTINUE)", "pass"),
    _connection(
        "a refusal is not let through",
        'self._enter("linger", _LINGER_SECONDS)\n        self.transport.write_eof()',
        "self.transport.close()",
    ),
    _connection("a refused caller may stay", 'self._enter("linger", _LINGER_SECONDS)', "self._deadline = _NEVER"),
    _connection(
        "a body may pause for ever", 'self._enter("body", self.server.idle_seconds)', 'self._enter("body", _NEVER)'
    ),
    _connection("each byte gives a head more time", 'elif self._phase != "head":', "else:"),
    _connection("who takes nothing may stay", "if unsent < self._unsent:", "if True:"),
    _connection("who takes a little is let go", "if unsent < self._unsent:", "if False:"),
    _connection(
        "an answer must be made in time",
        'self._phase = "answer"\n            self._deadline = _NEVER',
        'self._phase = "answer"',
    ),
    _connection(
        "a refusal comes before its turn",
        "if responder is None and not self._queue:",
        "if responder is None or self._queue:",
    ),
    _connection("a body may grow over the limit", "if request.size > limit:", "if False:"),
    _connection("closing breaks what is under way", "if self._answering is None and not self._queue:", "if True:"),
    _connection(
        "an upgrade comes before its turn",
        "self._answering is None and self.server.is_websocket",
        "self._server.is_websocket",
    ),
    _answers("the last chunk has no end", 'LAST_CHUNK = b"0\\r\\n\\r\\n"', 'LAST_CHUNK = b"0\\r\\n"'),
    _answers("a header may hold another", 'if lines.count(b"\\n")', 'if False and lines.count(b"\\n")'),
    _answers("sizes of chunks are decimal", 'b"%x\\r\\n%b\\r\\n"', 'b"%d\\r\\n%b\\r\\n"'),
    _answers("the date stands still", "if second != self._second:", "if not self._line:"),
    _asgi(
        "an application that reads nothing is sent all",
        "if self._unread > HIGH_WATER:\n            self._connection.transport.pause",
        "if False:\n            self._connection.transport.pause",
    ),
    _asgi(
        "an unread body stops the connection",
        "if self._unread > HIGH_WATER:\n            #",
        "if False:\n            #",
    ),
    _asgi(
        "an unread body does not end the connection",
        "if not self._request.is_whole or self._connection.server.is_closing:",
        "if self._connection.server.is_closing:",
    ),
    _asgi(
        "a closing server does not say so",
        "if not self._request.is_whole or self._connection.server.is_closing:",
        "if not self._request.is_whole:",
    ),
    _asgi("HTTP/1.0 gets chunks", "elif not is_framed and self._request.is_11:", "elif not is_framed:"),
    _asgi("the last chunk is forgotten", "out += LAST_CHUNK", "pass"),
    _asgi("HEAD is answered with a body", 'self._has_body = request.method != b"HEAD"', "self._has_body = True"),
    _asgi(
        "half an answer looks whole",
        "self._connection.transport.abort()\n            else",
        "self._connection.finish(keep=self._keep)\n            else",
    ),
    _asgi("a body may differ from its length", "if self._due < 0 or (self._due and not more):", "if False:"),
    _asgi("204 has a framing", "is_framed = status in (204, 304)", "is_framed = False"),
    _asgi("an application never hears that the caller left", "self._has_left = True", "pass"),
    _asgi(
        "who is held back when the caller leaves stays",
        "self.caller_half_closed()\n        self._may_write.set()",
        "self.caller_half_closed()",
    ),
    _asgi("an application writes as fast as it can", "if not self._may_write.is_set():", "if False:"),
    _asgi("HTTP/1.0 is not told that it is kept", 'headers.append((b"connection", b"keep-alive"))', "pass"),
    _asgi("an application frames its answer itself", "if name not in _HOP_BY_HOP:", "if True:"),
    _asgi("the word to go on is said twice", "self._request.expects = False", "pass"),
    _asgi(
        "an application cannot end the connection",
        "self._keep = self._keep and not (name",
        "self._keep = self._keep or (name",
    ),
)
LANE_MUTANTS = (
    _scan("a mark across a cut is missed", "_MARGIN = len(_MARK) - 1", "_MARGIN = len(_MARK) - 2"),
    _scan("a mark at a cut counts twice", "_MARGIN = len(_MARK) - 1", "_MARGIN = len(_MARK)"),
    _scan("the end of a stream is a token", " - tail.rstrip().endswith(_DONE)", ""),
    _scan(
        "a large piece is forgotten",
        'self._before, self._last = piece[-_TAIL:], b""',
        'self._before, self._last = b"", b""',
    ),
    _scan("the first usage counts", "at = answer.rfind(name)", "at = answer.find(name)"),
    _scan("what was before the last piece is lost", "(self._before + last)[-_TAIL:]\n", "last\n"),
    _scan("any line's end is an event's", r'tail.endswith((b"\n\n", b"\n\r\n"))', r'tail.endswith((b"\n", b"\n\r\n"))'),
    _scan("an event ends at one line", r'(b"\n\n", b"\n\r\n")', r'(b"\n\n",)'),
    _relay("an answer that began is asked for again", "and not self._is_begun and self._error_head is None:", ":"),
    _relay("a fourth backend is asked", "if search.tries >= MOST_TRIES:", "if search.tries > MOST_TRIES:"),
    _relay("a backend that failed stays busy", "search.tries += 1\n            self._release()", "search.tries += 1"),
    _relay("the backend works on when the call is over", "upstream.cancel()", "pass"),
    _relay("a search goes on when the call is over", "self._waiting.cancel()", "pass"),
    _relay("an ended call still ticks", "lane.wheel.discard(self)", "pass"),
    _relay("a heartbeat comes inside an event", "if self.ends_an_event:\n                self._beat()", "self._beat()"),
    _relay(
        "who takes nothing gets heartbeats",
        " and not self._is_paused:\n            self._next_beat",
        ":\n            self._next_beat",
    ),
    _relay(
        "a refusal is no reason to be silent",
        "and self._error_head is None and not self._is_paused:",
        "and not self._is_paused:",
    ),
    _relay("a heartbeat comes although events do", "self._has_spoken = True\n        scan.feed", "scan.feed"),
    _relay(
        "a heartbeat comes at every look",
        "self._has_spoken = False\n            self._next_beat = now + HEARTBEAT_SECONDS",
        "self._has_spoken = False",
    ),
    _relay(
        "a pause before the call is lost",
        "if self._is_paused:\n                upstream.pause()",
        "if False:\n                upstream.pause()",
    ),
    _relay("a pause does not reach the backend", "self._upstream.pause()", "pass"),
    _relay("a pause is not undone", "self._upstream.resume()", "pass"),
    _relay("a refusal has any length", "if len(self._error_body) > MOST_ERROR_BYTES:", "if False:"),
    _relay("tokens are not counted", "tallies.tokens.value += tokens", "pass"),
    _relay("time is not counted", "tallies.inference.observe(time.perf_counter() - self.started)", "pass"),
    _relay("each piece is the first", "if scan is None:", "if True:"),
    _relay("a fault behind what was said is missed", 'translation.feed(b"")', "pass"),
    _relay("failures are not counted", "self._lane.metrics.backend_errors.labels(*labels).value += 1", "pass"),
    _relay("an answer begins twice", "if self._is_begun:\n            return", "if False:\n            return"),
    _relay("an invented model is a label", "if error.backend:\n", "if True:\n"),
    _relay(
        "a page is a translated stream",
        "elif order.stream and not head.content_type",
        "elif False and not head.content_type",
    ),
    _relay(
        "a translation's last words are lost",
        "            if said:\n                self.piece(said)\n            self._end",
        "            self._end",
    ),
    _relay("an ended call keeps its place", "lane.balancer.release(self._backend, order.model)", "pass"),
    _relay(
        "half an event is an end",
        "elif self._may_be_cut and self._scan is not None and not self._scan.is_complete:",
        "elif False:",
    ),
    _http_call("a stopping lane does not say that it closes", " or self._connection.server.is_closing:", ":"),
    _http_call("the lane forgets the last chunk", "self._connection.post(LAST_CHUNK)", "pass"),
    _http_call(
        "the lane sends chunks to HTTP/1.0",
        "is_chunked = self._is_chunked = self._request.is_11",
        "is_chunked = self._is_chunked = True",
    ),
    _http_call("a broken stream leaves the connection open", "self._conclude(keep=False)", "self._conclude(keep=True)"),
    _http_call("a broken event swallows the error", "if not self.ends_an_event:", "if False:"),
    _http_call("a whole event gets another blank line", "if not self.ends_an_event:", "if True:"),
    _http_call("the lane does not say that it closes", 'lines += b"connection: close\\r\\n"', "pass"),
    _http_call("answers of any size are kept", "if self._kept_bytes > _WHOLE_BYTES:", "if False:"),
    _http_call(
        "half a long answer looks whole",
        "self._connection.transport.abort()\n            return",
        "self._connection.finish(keep=False)\n            return",
    ),
    _http_call("who half closed is still worked for", "self._connection.transport.abort()\n\n", "pass\n\n"),
    _http_call(
        "an answer without a framing keeps the connection",
        "keep=self._is_chunked or self._length is not None",
        "keep=True",
    ),
    _http_call("who left was answered", "self._record(self._status or LEFT)", "self._record(200)"),
    _http_call(
        "a long answer is chunked in spite of its length",
        "self._is_chunked = self._length is None and request.is_11",
        "self._is_chunked = request.is_11",
    ),
    _http_call("leaving the lane cancels nothing", "super().caller_left()", "pass"),
    _exchanges("one stream too many", "if count >= self._limit:", "if count > self._limit:"),
    _exchanges(
        "a draining gateway takes calls", "if self._is_draining:\n            raise", "if False:\n            raise"
    ),
    _exchanges("one id has two calls", "if key in running:", "if False:"),
    _exchanges(
        "other tenants may cancel",
        "self._running.get((tenant, request_id))",
        "{key[1]: each for key, each in self._running.items()}.get(request_id)",
    ),
    _exchanges("ended calls are active", "self._active.value -= 1", "pass"),
    _exchanges("draining always takes its time", "self._idle.set()\n\n    def cancel", "pass\n\n    def cancel"),
    _exchanges("what outlasts the draining goes on", "in list(self._running.values()):", "in list[Exchange]():"),
    _exchanges(
        "other processes are not told of an end",
        "self._active.value -= 1\n        if self._shared is not None:",
        "self._active.value -= 1\n        if False:",
    ),
    _exchanges("other processes do not count", "len(running) + self._shared.others()", "len(running)"),
    _refusals("Retry-After is lost", "retry_after=head.retry_after or 1.0", "retry_after=1.0"),
    _refusals("a limit's Retry-After is lost", "retry_after = head.retry_after or", "retry_after = None or"),
    _refusals("a limit is a failure", "422, 429})", "422})"),
    _refusals("the gateway's bad key is the caller's", "frozenset({400, 404,", "frozenset({400, 401, 403, 404,"),
    _refusals("an overloaded backend has failed", "if head.status == 503:", "if False:"),
    _refusals("a backend's words have any length", "[:2_000]", ""),
    _refusals("a late backend has failed", "case BackendTimeout():", "case BackendTimeout() if False:"),
    _mutant("domain/ids.py", (_OUTLET,), "any id will do", "{1,128}\\Z", "{1,128}"),
    _lane("every method is hot", ' and request.method == b"POST"', ""),
    _lane("what callers invent is a label", '(path, "POST") if is_route else', '(path, "POST") if request else'),
    _lane(
        "any page may read",
        'if origin is None or origin.rstrip(b"/").lower() not in self._cors_origins:',
        "if origin is None:",
    ),
    _lane("requests are not counted", "bound[0].value += 1", "pass"),
)
