"""Faults for the way to a backend, and for what is chosen, timed and counted beside it."""

from functools import partial

from tests.mutant import Mutant

_CLIENT = "tests/unit/backends/upstream/test_client.py"
_CALL = "tests/unit/backends/upstream/test_call.py"
_DIALS = "tests/unit/backends/upstream/test_dials.py"
_POOL = "tests/unit/backends/upstream/test_pool.py"
_LIMITS = "tests/unit/backends/upstream/test_limits.py"
_ON_WIRE = "tests/unit/backends/upstream/test_edges.py"
_BYTES = "tests/properties/test_upstream_connection.py"


def _mutant(file: str, suites: tuple[str, ...], name: str, before: str, after: str) -> Mutant:
    return Mutant(name, file, before, after, suites)


_reader = partial(_mutant, "backends/upstream/reader.py", (_ON_WIRE, _LIMITS, _CLIENT, _BYTES))
_connection = partial(
    _mutant,
    "backends/upstream/connection.py",
    (_ON_WIRE, _LIMITS, "tests/unit/backends/upstream/test_rests.py", _CALL, _CLIENT),
)
_pool = partial(_mutant, "backends/upstream/pool.py", (_POOL, _DIALS, _CALL, _CLIENT))
_call = partial(_mutant, "backends/upstream/call.py", (_ON_WIRE, _LIMITS, _CALL))
_translating = partial(_mutant, "backends/translating.py", ("tests/unit/backends/test_translating.py",))
_wheel = partial(_mutant, "wire/wheel.py", ("tests/unit/wire/test_wheel.py",))
_balancer = partial(
    _mutant,
    "scheduling/balancer.py",
    ("tests/unit/scheduling/test_balancer_edges.py", "tests/unit/scheduling/test_balancer.py"),
)
_fleet = partial(
    _mutant,
    "backends/fleet.py",
    (
        "tests/unit/scheduling/test_balancer_edges.py",
        "tests/unit/scheduling/test_balancer.py",
        "tests/unit/backends/test_fleet.py",
    ),
)
_memory = partial(
    _mutant, "wire/memory.py", ("tests/unit/wire/test_memory.py", "tests/properties/test_repeated_heads.py")
)
_repeats = partial(_mutant, "backends/upstream/reader.py", (_ON_WIRE, "tests/properties/test_repeated_heads.py"))
_outbox = partial(_mutant, "wire/outbox.py", ("tests/unit/wire/test_outbox.py",))
_rests = partial(_mutant, "wire/rests.py", ("tests/unit/wire/test_rests.py",))
_TALLIES = ("tests/unit/observability/test_tallies_sums.py", "tests/unit/observability/test_tallies.py")
_tallies = partial(_mutant, "observability/tallies.py", _TALLIES)
_series = partial(_mutant, "observability/series.py", _TALLIES)
_access_log = partial(
    _mutant,
    "observability/access_log.py",
    ("tests/unit/observability/test_access_log_stream.py", "tests/unit/observability/test_access_log.py"),
)

UPSTREAM_MUTANTS = (
    _memory("a message may be shorter than it says", "or int(digits) != size:", "or int(digits) < size:"),
    _memory("a message may be longer than it says", "or int(digits) != size:", "or int(digits) > size:"),
    _memory("a known length is not compared", "if total == self._total and", "if"),
    _memory("what stands behind the length is not compared", "or not data.startswith(self._suffix, end):", "or False:"),
    _memory("what stands before the length is not compared", "if not data.startswith(self._prefix):", "if False:"),
    _memory("a length need not be a number", "not digits.isdigit() or ", ""),
    _memory("the size of the last message is told", "        self.size = size\n\n", "\n"),
    _memory(
        "folded lines are remembered", 'rb"[!-~][^\\r\\n]*\\r\\n(?:[!-9;-~]+:', 'rb"[!-~][^\\r\\n]*\\r\\n(?:[ !-9;-~]+:'
    ),
    _memory("a body that is cut off is learned", "head.end() + int(head[1]) != total", "False"),
    _memory("every head is learned", "if self._credit < _PRICE:", "if False:"),
    _memory("any stream begins as the one before", "if not data.startswith(self._stream):", "if not self._stream:"),
    _memory(
        "a stream's odd head is remembered",
        'rb"[!-~][^\\r\\n]*\\r\\n(?:[!-9;-~]+:[^\\r\\n]*\\r\\n)*\\r\\n")',
        'rb"(?s).*\\r\\n\\r\\n")',
    ),
    _repeats(
        "an answer with a length is remembered as a stream", 'if b"transfer-encoding" in self._fields:', "if True:"
    ),
    _repeats("an interim answer is remembered", " or not start.startswith(_USUAL)", ""),
    _repeats("a remembered length is told again", "if head.length != size:", "if False:"),
    _connection(
        "a cancelled request is sent",
        '            self._posted = b""\n            self._home.drop',
        "            self._home.drop",
    ),
    _connection("who answers unasked is kept", "is_sent = not self._posted and not", "is_sent = not"),
    _outbox("what is added meanwhile is lost", "answers, self._answers = self._answers, []", "answers = self._answers"),
    _outbox("each is flushed in a turn of its own", "if not self.turn_began:", "if True:"),
    _outbox("a turn has no end", "        self.turn_began = 0.0\n        self.flush()", "        self.flush()"),
    _outbox("the first answer waits for any number", "if len(self._answers) >= self._most:", "if False:"),
    _outbox("the first request waits for any number", "if len(self._requests) >= self._most:", "if False:"),
    _outbox(
        "answers go first", "_flush(requests)\n        _flush(answers)", "_flush(answers)\n        _flush(requests)"
    ),
    _outbox("one that fails holds up the others", "except Exception:  # the", "except KeyError:  # the"),
    _rests("every token is late", "if now - began < LATE_SECONDS:", "if False:"),
    _rests("the end of a turn is not the end of it", "if not began:", "if False:"),
    _rests("an idle processor is busy", "self._is_busy = used", "self._is_busy = True or used"),
    _rests("it is busy since it began", "self._used_before = used\n", "pass\n"),
    _rests("the last look is kept for ever", "if now - self._looked >= LOOK_SECONDS:", "if not self._looked:"),
    _rests("all wake together", "room = _MOST_AT_ONCE", "room = 10_000"),
    _rests("nobody sleeps long", "now - OVERDUE_SECONDS)", "now - OVERDUE_SECONDS) + 1"),
    _rests("long turns make long rests", "now - OVERDUE_SECONDS", "now - 10.0"),
    _rests("what others took counts as time that was left", "(running + waiting)", "running"),
    _rests("who comes later is not woken", "self._is_waking = bool(resting)", "self._is_waking = True"),
    _rests("the rest of a crowd is not woken", "        if resting:\n", "        if False:\n"),
    _rests("one that fails leaves the others asleep", "except Exception:  # all", "except KeyError:  # all"),
    _connection("a token of any answer rests", " and head.content_type.startswith(_STREAMS)", ""),
    _connection("an error rests", "self._is_stream = head.status == 200 and ", "self._is_stream = "),
    _connection("the first token rests", "if self._readings > _FIRST_READINGS and", "if"),
    _connection("readings of the stream before count", "                self._readings = 0\n", ""),
    _mutant(
        "backends/upstream/pool.py",
        ("tests/unit/backends/upstream/test_rests.py",),
        "streams rest over TLS",
        "shared_rests() if context is None else None",
        "shared_rests()",
    ),
    _connection("a large reading rests", " and nbytes <= _SINGLE_BYTES:", ":"),
    _connection(
        "a paused call is read after its rest",
        "if call is not None and not call.is_paused and not",
        "if call is not None and not",
    ),
    _connection("who still asks rests", " and not transport.get_write_buffer_size():", ":"),
    _rests("a system that counts nothing is believed", "if running else time.thread_time()", ""),
    _connection("a rest has no end", "            rests.add(self)\n", ""),
    _reader("an interim answer is the answer", "if status < 200:", "if status < 100:"),
    _reader("headers of the answer before stay", "self._fields.clear()", "pass"),
    _reader("what is no body has no limit", "if self._barren > _MOST_BARREN and", "if False and"),
    _reader(
        "a server that closes is believed to keep", "self.keeps = self._parser.should_keep_alive()", "self.keeps = True"
    ),
    _reader("what follows an answer belongs to it", "del pieces[self._own :]", "pass"),
    _reader("half a packed body is whole", "if self.is_whole and not unpacker.is_whole:", "if False:"),
    _reader("any transfer coding is taken", 'if coding.strip().lower() != b"chunked":', "if False:"),
    _reader("any content coding is taken", 'elif coding not in (b"", b"identity"):', "elif False:"),
    _reader("the packed length is told", "            length = None\n", ""),
    _reader("every body may end with the connection", "self._until_close = told is None", "self._until_close = True"),
    _reader("no body may end with the connection", "self._until_close = told is None", "self._until_close = False"),
    _reader("the protocol may change", "if status == 101:", "if False:"),
    _reader("the last call on a connection is not", 'elif name.lower() == b"max" and int(value) == 0:', "elif False:"),
    _reader("204 has a body", "if status in _NO_BODY:\n            return 0", "if False:\n            return 0"),
    _reader("a backend's Retry-After is not read", "retry_after = float(told) if", "retry_after = None if"),
    _connection(
        "half an answer is asked for again", "if self._has_served and not self._heard:", "if self._has_served:"
    ),
    _connection(
        "a fresh connection's call is made again", "if self._has_served and not self._heard:", "if not self._heard:"
    ),
    _connection("a dead connection's call is not made again", "if self._has_served and not self._heard:", "if False:"),
    _connection(
        "a closing connection is asked", " and not self._transport.is_closing()\n\n    def ask", "\n\n    def ask"
    ),
    _connection("an old connection is asked", "and now < self._expires ", ""),
    _connection("idle connections never close", "if now >= self._expires:", "if False:"),
    _connection("a closed connection is counted", "self._home.drop(self)\n            self", "self"),
    _connection(
        "a cancelled call is sent on",
        "self._home.drop(self)\n            self._transport.abort()",
        "self._home.drop(self)",
    ),
    _connection(
        "a connection stays paused",
        "if call.is_paused:\n                self._transport.resume_reading()",
        "if False:\n                pass",
    ),
    _connection(
        "a pause before the question is lost",
        "if call.is_paused:\n            self.pause()",
        "if False:\n            pass",
    ),
    _connection("half a question is followed by another", " and not self._transport.get_write_buffer_size()", ""),
    _connection("a pause of ours is the server's", "elif call.is_paused:", "elif False:"),
    _connection(
        "any bytes are the first byte",
        "self._heard = True",
        "self._heard = True\n            self._since = self._now()",
    ),
    _connection("a call may take for ever", "elif now - call.started >= call.limits.total:", "elif False:"),
    _connection("an answer may pause for ever", "if now - self._since >= call.limits.idle:", "if False:"),
    _connection("a first byte may take for ever", "elif now - self._since >= call.limits.first_byte:", "elif False:"),
    _connection(
        "what nobody asked for is passed over",
        "if call is None or call.sink is None:\n            self.close()",
        "if call is None or call.sink is None:",
    ),
    _connection("what a server says of keeping is all used", "_SHARE_OF_TOLD = 0.8", "_SHARE_OF_TOLD = 80.0"),
    _connection("a reset is the end of a body", "elif error is None and self._reader", "elif self._reader"),
    _connection("a call that was cancelled hears more", "if body and self._call is call:", "if body:"),
    _connection(
        "an end is told before the connection is free",
        "self._free(call, keeps=reader.keeps)\n            call.came(head, body)",
        "call.came(head, body)\n            self._free(call, keeps=reader.keeps)",
    ),
    _connection("an idle time begins with the question", 'call.body = b""', "self._since = call.started"),
    _pool(
        "the oldest connection serves",
        "connection, _ = idle.popitem()",
        "connection = next(iter(idle))\n            del idle[connection]",
    ),
    _pool("one connection too many", "self._counted >= self._most:", "self._counted > self._most:"),
    _pool("dropped connections are counted", "self._counted -= 1\n        self._idle.pop", "self._idle.pop"),
    _pool("failed dials are counted", "if not is_made:", "if False:"),
    _pool("unfit connections stay open", "return\n            connection.close()", "return"),
    _pool("nobody takes a dial over", "if dial.adopt(call):", "if False:"),
    _pool("a dial that was given up is taken over", "if self._is_given_up or self._call", "if self._call"),
    _pool("a closed connection is still idle", "self._idle.pop(connection, None)", "pass"),
    _pool(
        "a connection that nobody waits for is lost",
        "elif call is None:\n            pool.keep(connection)",
        "elif call is None:\n            connection.close()",
    ),
    _pool("connecting may take for ever", "if now - self._since >= limits.connect:", "if False:"),
    _pool(
        "a call that connects has no limit",
        "elif call is not None and now - call.started >= limits.total:",
        "elif False:",
    ),
    _pool("nobody hears that a backend is gone", "if self._on_unavailable is not None:", "if False:"),
    _pool("probes are kept", "self.keeps = most is not None", "self.keeps = True"),
    _pool("a call is made a third time", "self.dial(call)\n        except", "self.carry(call)\n        except"),
    _pool("closing does not wait", "await asyncio.shield(self._emptied)", "pass"),
    _pool("a closed pool dials", "if self._closed:\n            raise", "if False:\n            raise"),
    _call("a cancelled call goes on", "carrier.abandon()", "pass"),
    _call("a pause is forgotten", "self.is_paused = True", "pass"),
    _call("a call is resumed only once", "self.is_paused = False\n            if", "if"),
    _call(
        "the sink is told twice",
        "= self.sink, None, None\n        if sink is not None:\n            sink.answer_failed",
        "= self.sink, self.sink, None\n        if sink is not None:\n            sink.answer_failed",
    ),
)
BESIDE_MUTANTS = (
    _translating("a failed translation lets the backend work", "self._call.cancel()", "pass"),
    _translating("the end of a translation is lost", "super().answer_piece(last)", "pass"),
    _translating("errors are translated", "head.status == 200 and", ""),
    _translating("every type is translated", "head.content_type.startswith(self._only)", "True"),
    _translating("a translation keeps the length", "head.retry_after)", "head.retry_after, head.length)"),
    _wheel("one fault stops every limit", "except Exception:", "except ZeroDivisionError:"),
    _wheel("the wheel turns for nobody", " if self._entries else None", ""),
    _wheel("what was discarded still ticks", "if entry in self._entries:", "if True:"),
    _wheel(
        "the wheel turns once",
        "self._timer = loop.call_later(self._tick_seconds, self._turn) if self._entries else None",
        "self._timer = None",
    ),
    _wheel(
        "the wheel never turns again",
        "self._turn) if self._entries else None",
        "self._turn) if self._entries else self._timer",
    ),
    _fleet(
        "the only backend is chosen when full", "if self.load(backend.name) >= backend.max_concurrency:", "if False:"
    ),
    _fleet("others' calls take no place", "desk.open + desk.shared.others()", "desk.open"),
    _balancer("the only backend is chosen when down", 'only.health().state == "up" and', "True and"),
    _balancer("load does not matter", "rank = (load, self", "rank = (0, self"),
    _balancer("turns do not matter", "self._last_turn.get(backend.name, 0))", "0)"),
    _balancer("a full backend is chosen", "if load >= backend.max_concurrency:", "if load > backend.max_concurrency:"),
    _balancer(
        "a backend that is down is chosen",
        'if backend.name in refused or backend.health().state != "up":',
        "if backend.name in refused:",
    ),
    _balancer("a backend that failed is chosen again", "if backend.name in refused or", "if"),
    _balancer("places are never given back", "self._fleet.end(backend.name, model)", "pass"),
    _balancer("who searched is not counted", "self._fleet.begin(backend.name, search.model)", "pass"),
    _balancer("patience begins anew", "if search.deadline is None:", "if True:"),
    _balancer("patience never ends", "if not worth_waiting or now() >= search.deadline:", "if not worth_waiting:"),
    _balancer("a backend that starts again is not asked", "search.refused.pop(name, None)", "pass"),
    _series(
        "a value on a bound is above it", "bisect_left(self._bounds, value)", "bisect_left(self._bounds, value + 1e-9)"
    ),
    _tallies("the smallest is added up", 'if self.merge == "sum" else', "if True else"),
    _tallies("the standing of the dead stays", 'if family.kind != "gauge"', "if True"),
    _series("sums are not kept", "self.total += value", "pass"),
    _tallies(
        "what only one process counted is lost",
        "series = {each.labels: each for each in self.series}",
        "series: dict[tuple[str, ...], SeriesDump] = {}",
    ),
    _access_log("lines wait for others", "self._timer = loop.call_later(FLUSH_SECONDS, self._flush_in_time)", "pass"),
    _access_log("the time stands still", "if int(now * 1000) != self._millisecond:", "if not self._stamp:"),
    _access_log("lines are collected without end", "if len(lines) >= _MOST_LINES:", "if False:"),
    _access_log(
        "a closed stream harms requests",
        "contextlib.suppress(OSError, ValueError)",
        "contextlib.suppress(ZeroDivisionError)",
    ),
    _access_log(
        "closing writes nothing", "self._timer.cancel()\n        self._flush_in_time()", "self._timer.cancel()"
    ),
    _access_log("lines are in time only once", "self._timer = None\n        self._flush()", "self._flush()"),
)
