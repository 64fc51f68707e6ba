"""Deliberate faults, each of which the suite has to notice. `check.py` applies them one at a time.

A fault is a few edits of the package; the text to replace stands there exactly once (a test of the
suite sees to that), and only the named files of the suite are run on it.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A text of a module, and what to put in its place."""

    module: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A fault, and the files of the suite that have to notice it."""

    name: str
    tests: tuple[str, ...]
    edits: tuple[Edit, ...]


def _mutant(name: str, tests: str, *edits: tuple[str, str, str]) -> Mutant:
    files = tuple(f"tests/test_{each}.py" for each in tests.split())
    return Mutant(name, files, tuple(Edit(*each) for each in edits))


MUTANTS = [
    # --- The stream ---
    _mutant(
        "finaliser removed",
        "stream",
        (
            "_stream.py",
            "weakref.finalize(self, pages.abandon).atexit = False",
            "pass",
        ),
    ),
    _mutant(
        "finaliser cancels from the wrong thread",
        "stream",
        ("_tasks.py", "loop.call_soon_threadsafe(task.cancel)", "task.cancel()"),
    ),
    _mutant(
        "error shown as the end",
        "stream",
        (
            "_stream.py",
            "        if self._error is not None:\n            raise self._error\n        if self._next",
            "        if self._error is not None:\n            raise StopAsyncIteration\n        if self._next",
        ),
    ),
    _mutant(
        "closed session shown as the end",
        "cancellation",
        ("_prefetching.py", "return self._failed(self._cancelled())", "self._closed = True"),
    ),
    _mutant(
        "cancelled wait takes the page along",
        "stream",
        (
            "_prefetching.py",
            "            await arrival\n",
            "            await self._task\n",
        ),
    ),
    _mutant(
        "closing gives up when it is cancelled",
        "tasks",
        (
            "_tasks.py",
            "                await asyncio.wait(pending, timeout=left)\n            except asyncio.CancelledError as error:\n                first = first or error\n",
            "                await asyncio.wait(pending, timeout=left)\n            except asyncio.CancelledError as error:\n                raise\n",
        ),
    ),
    _mutant(
        "closing waits for a turn that nobody disturbs",
        "tasks",
        (
            "_tasks.py",
            "        while not next_turn.done():\n            try:\n                await asyncio.wait([next_turn])\n            except asyncio.CancelledError as error:\n                first = first or error\n",
            "        while True:\n            try:\n                await asyncio.sleep(0)\n                break\n            except asyncio.CancelledError as error:\n                first = first or error\n",
        ),
    ),
    _mutant(
        "closing waits without a bound",
        "tasks",
        (
            "_tasks.py",
            "left = end - loop.time()",
            "left = 1e9",
        ),
    ),
    _mutant(
        "closing waits for whoever waits for it",
        "tasks",
        (
            "_tasks.py",
            "            unseen += _waits.get(each, ())\n",
            "",
        ),
    ),
    _mutant(
        "closing waits for its own task",
        "tasks",
        (
            "_tasks.py",
            "        if each is target:\n            return True\n",
            "        if each is target:\n            return False\n",
        ),
    ),
    _mutant(
        "closing swallows its own cancellation",
        "tasks",
        (
            "_tasks.py",
            "        if first is not None:\n            raise first\n",
            "        if first is not None:\n            return\n",
        ),
    ),
    _mutant(
        "closing raises a cancellation of its own",
        "tasks",
        (
            "_tasks.py",
            "            raise first\n",
            "            raise asyncio.CancelledError\n",
        ),
    ),
    _mutant(
        "closing raises the last cancellation",
        "tasks",
        (
            "_tasks.py",
            "        while not next_turn.done():\n            try:\n                await asyncio.wait([next_turn])\n            except asyncio.CancelledError as error:\n                first = first or error\n",
            "        while not next_turn.done():\n            try:\n                await asyncio.wait([next_turn])\n            except asyncio.CancelledError as error:\n                first = error\n",
        ),
    ),
    _mutant(
        "closing does not cancel the page",
        "stream",
        (
            "_prefetching.py",
            "        self.abandon()\n        # Elsewhere",
            "        # Elsewhere",
        ),
    ),
    _mutant(
        "no page ahead",
        "stream session",
        ("_stream.py", "        await self._pages.look_ahead()\n", "        pass\n"),
    ),
    _mutant(
        "next request not given the time to leave",
        "session",
        (
            "_prefetching.py",
            "await asyncio.wait([left], timeout=_DEPARTURE)",
            "await asyncio.wait([left], timeout=0)",
        ),
    ),
    _mutant(
        "a request more than the limit needs",
        "stream",
        (
            "_stream.py",
            "unreadable or records.known >= end)",
            "unreadable or records.known > end)",
        ),
    ),
    _mutant(
        "a request behind what a limit cannot read",
        "properties",
        (
            "_stream.py",
            "last=unreadable or records.known >= end)",
            "last=records.known >= end)",
        ),
    ),
    _mutant(
        "two at once not noticed",
        "stream",
        (
            "_stream.py",
            "        if self._busy:\n            failure = _two_at_once()\n",
            "        if False:\n            failure = _two_at_once()\n",
        ),
    ),
    _mutant(
        "good records of a page lost to a bad one",
        "stream",
        (
            "_stream.py",
            "self._empty_page or (self._buffer and (blocked or self._is_structured()))",
            "self._empty_page or (self._buffer and self._is_structured())",
        ),
    ),
    _mutant(
        "record taken although the wait was cancelled",
        "stream cancellation",
        (
            "_stream.py",
            "            index += 1\n",
            "            index += 1\n            self._index = index\n",
        ),
    ),
    # --- Bodies that prove bad half-way ---
    _mutant(
        "same error of a malformed record not told again",
        "properties",
        (
            "_stream.py",
            "        if self._error is not None:  # and the records",
            "        if False:  # and the records",
        ),
    ),
    _mutant(
        "record that is kept told as an error",
        "properties",
        (
            "_stream.py",
            "        if readable and self._keep_invalid:",
            "        if False:",
        ),
    ),
    _mutant(
        "record that is torn passed over",
        "properties",
        (
            "_stream.py",
            "            readable = page.records.skip(index)",
            "            page.records.skip(index)",
        ),
    ),
    _mutant(
        "no cursor behind a bad record",
        "properties",
        (
            "_stream.py",
            "        if readable and isinstance(error, ResponseError):",
            "        if False:",
        ),
    ),
    _mutant(
        "cursor behind a bad record is before it",
        "properties",
        (
            "_stream.py",
            "self._behind(page, index + 1, sid)",
            "self._behind(page, index, sid)",
        ),
    ),
    _mutant(
        "awaited list leads past records that were not delivered",
        "cursors",
        (
            "_stream.py",
            "isinstance(failure, ResponseError) and failure.cursor != self.cursor:",
            "False:",
        ),
    ),
    _mutant(
        "awaited list never leads past a bad record",
        "cursors",
        (
            "_stream.py",
            "isinstance(failure, ResponseError) and failure.cursor != self.cursor:",
            "isinstance(failure, ResponseError):",
        ),
    ),
    _mutant(
        "records passed over noted twice",
        "properties",
        (
            "_stream.py",
            "            del self._problems[problems:]\n",
            "",
        ),
    ),
    _mutant(
        "records passed over forgotten at closing",
        "properties",
        (
            "_stream.py",
            "        self._problems += self._passed_over()\n",
            "",
        ),
    ),
    _mutant(
        "task cancelled before its first step wakes nobody",
        "stream",
        (
            "_prefetching.py",
            "        self._task.add_done_callback(on_end)",
            "        #",
        ),
    ),
    _mutant(
        "closing leaves whoever waits for a page waiting",
        "stream",
        (
            "_prefetching.py",
            "        for waiter in self._arrival:\n            if waiter.get_loop() is running_loop():\n                _wake(waiter)\n",
            "",
        ),
    ),
    _mutant(
        "page task that closes its own list waits for itself",
        "stream",
        (
            "_prefetching.py",
            "if self._task is None or self._task is _current_task():",
            "if self._task is None:",
        ),
    ),
    _mutant(
        "request taken to have left before it has a connection",
        "session",
        (
            "_transport.py",
            "        connection = await super().connect(req, traces, timeout)\n        # A host",
            "        _departed.get()()\n"
            "        connection = await super().connect(req, traces, timeout)\n        # A host",
        ),
    ),
    _mutant(
        "another attempt at a page taken for a loop",
        "paging faults",
        (
            "_paging.py",
            "self._seen.setdefault(query, request.query) != request.query",
            "self._seen.setdefault(query, request.query) or True",
        ),
    ),
    _mutant(
        "end of the body not looked at",
        "decoding faults",
        (
            "_decoding.py",
            "            self._reader.go_on(_skip(self._body, at + 1))\n",
            "            pass\n",
        ),
    ),
    _mutant(
        "record counted before it is seen to end",
        "decoding",
        (
            "_decoding.py",
            '        elif not _is(body, behind, b"]"):\n            raise ValueError\n',
            "",
        ),
    ),
    _mutant(
        "number taken as a window cut it",
        "decoding",
        ("_decoding.py", "if rest or text[end : end + 1] in _BEHIND_VALUES:", "if True:"),
    ),
    _mutant(
        "places counted in characters",
        "decoding",
        (
            "_decoding.py",
            "at + (end if text.isascii() else len(text[:end].encode()))",
            "at + end",
        ),
    ),
    _mutant(
        "refused chunk taken for a bad body",
        "decoding faults",
        (
            "_decoding.py",
            "            self._singly = range(at, end)\n            return None\n",
            "            raise ValueError\n",
        ),
    ),
    _mutant(
        "missing separator looked for at each record",
        "decoding",
        ("_decoding.py", "        if at in self._singly:\n            return None\n", ""),
    ),
    _mutant(
        "refused chunk tried again at each record",
        "decoding",
        ("_decoding.py", "            self._singly = range(at, end)\n", ""),
    ),
    _mutant(
        "malformed record told as transient",
        "decoding",
        (
            "_decoding.py",
            'return Fault(f"{words} at {path}", path, transient=False)',
            'return Fault(f"{words} at {path}", path)',
        ),
    ),
    _mutant(
        "record passed whose strings do not fit together",
        "decoding",
        (
            "_decoding.py",
            "        elif mark != _COMMA and (over or found[0] == b'\"'):\n            return None\n",
            "",
        ),
    ),
    _mutant(
        "record passed whose brackets do not fit together",
        "decoding",
        (
            "_decoding.py",
            "            if closing.pop() != mark:\n                return None\n",
            "            closing.pop()\n",
        ),
    ),
    _mutant(
        "search for a record's end without a bound",
        "decoding",
        ("_decoding.py", "at + _LONGEST_SEARCH), _MOST_TOKENS)", "at), None)"),
    ),
    _mutant(
        "looking ahead passes records",
        "decoding",
        (
            "_decoding.py",
            "        yield from ahead.walk(count - passed)",
            "        yield from self.walk(count)",
        ),
    ),
    _mutant(
        "msgspec's refusal is the last word",
        "decoding",
        (
            "_shapes.py",
            "                pass\n",
            "                raise\n",
        ),
    ),
    _mutant(
        "loop gets no turn while records are taken",
        "stream",
        (
            "_stream.py",
            "too.\n                    await asyncio.sleep(0)\n",
            "too.\n                    pass\n",
        ),
    ),
    _mutant(
        "consumer that is always cancelled gets no further",
        "cancellation",
        (
            "_stream.py",
            "                    self._fill()\n                    # Behind it, so that a consumer which is cancelled here each time gets on, too.\n                    await asyncio.sleep(0)\n",
            "                    await asyncio.sleep(0)\n                    # Behind it, so that a consumer which is cancelled here each time gets on, too.\n                    self._fill()\n",
        ),
    ),
    # --- Cursors ---
    _mutant(
        "cursor off by one",
        "cursors",
        (
            "_stream.py",
            "return self._behind(self._page, self._offset(), before)",
            "return self._behind(self._page, self._offset() + 1, before)",
        ),
    ),
    _mutant(
        "cursor knows no record before it",
        "cursors",
        (
            "_stream.py",
            "return _Position(page.request, index, sid if adjacent else None)",
            "return _Position(page.request, index, None)",
        ),
    ),
    _mutant(
        "cursor knows a record that is not right before it",
        "properties",
        (
            "_stream.py",
            "sid if adjacent else None)",
            "sid)",
        ),
    ),
    _mutant(
        "changed page resumed all the same",
        "cursors properties",
        (
            "_stream.py",
            "        if not self._start.verifies(sid):",
            "        if False:",
        ),
    ),
    _mutant(
        "page that became much shorter is a defect",
        "properties",
        (
            "_stream.py",
            "with suppress(IndexError):  # there",
            "with suppress(InsightsError):  # there",
        ),
    ),
    _mutant(
        "cursor forgotten at closing",
        "cursors",
        (
            "_stream.py",
            "        self._place, self._index, self._before = position\n",
            "        self._index = 0\n",
        ),
    ),
    _mutant(
        "closed stream shown as the end",
        "stream beginning_anew properties",
        (
            "_stream.py",
            "        if self._closed:\n            raise _closed()\n",
            "        if self._closed:\n            raise StopAsyncIteration\n",
        ),
    ),
    _mutant(
        "used up stream begins anew as an empty list",
        "beginning_anew properties",
        (
            "_stream.py",
            "        if self._used_up or self._closed:\n            raise self._with_position(",
            "        if self._closed:\n            raise self._with_position(",
        ),
    ),
    _mutant(
        "closed stream begins anew",
        "beginning_anew properties",
        (
            "_stream.py",
            "        if self._used_up or self._closed:\n            raise self._with_position(",
            "        if self._used_up:\n            raise self._with_position(",
        ),
    ),
    _mutant(
        "list awaited under another reader closes it",
        "stream",
        (
            "_stream.py",
            "        if self._busy:  # before",
            "        if False:  # before",
        ),
    ),
    _mutant(
        "list whose await failed taken for handed out",
        "cursors",
        (
            "_stream.py",
            "            self._stay_at(beginning)\n",
            "            pass\n",
        ),
    ),
    _mutant(
        "list whose await was cancelled shown as the end",
        "cursors",
        (
            "_stream.py",
            "self._closed, self._error = False, copied(failure)",
            "self._used_up = True",
        ),
    ),
    _mutant(
        "shorter page taken for the end",
        "cursors",
        ("_stream.py", "if records.count is not None and start > records.count:", "if False:"),
    ),
    _mutant(
        "label left in the cursor",
        "cursors",
        ("_cursors.py", "return _CUT_OUT if value and personal else value", "return value"),
    ),
    _mutant(
        "filters not compared",
        "cursors",
        ("_cursors.py", "if of_list == own_list:", "if True:"),
    ),
    _mutant(
        "altered cursors accepted",
        "cursors",
        ("_cursors.py", "if checksum != _checksum(version, body):", "if False:"),
    ),
    _mutant(
        "checksum without the version",
        "cursors",
        ("_cursors.py", "else bytes([version]) + body", "else body"),
    ),
    _mutant(
        "record before a cursor not compared",
        "cursors",
        ("_cursors.py", "_hash_of_record(sid) == self.before)", "True)"),
    ),
    _mutant(
        "page size changed under a page token",
        "cursors",
        ("_cursors.py", "if is_first and offset <= page_size:", "if offset <= page_size:"),
    ),
    _mutant(
        "place beyond the first page of another size",
        "cursors",
        ("_cursors.py", "if is_first and offset <= page_size:", "if is_first:"),
    ),
    _mutant(
        "case of SIDs counts for cursors",
        "cursors",
        ("_cursors.py", "return sid[:2] + sid[2:].lower()", "return sid"),
    ),
    _mutant(
        "cursors of long queries refused",
        "cursors",
        ("_cursors.py", "LONGEST_QUERY: Final = 64 * 1024", "LONGEST_QUERY: Final = 12 * 1024"),
    ),
    # --- The fan-out ---
    _mutant(
        "fan-out: finaliser removed",
        "fan_out",
        (
            "_fan_out.py",
            "finaliser = weakref.finalize(self, self._crew.close)",
            "finaliser = weakref.finalize(self, int)",
        ),
    ),
    _mutant(
        "fan-out: tasks refer to it",
        "fan_out",
        (
            "_fan_out.py",
            "        self._crew.forget = finaliser.detach\n",
            "        self._crew.forget = lambda: (finaliser.detach(), self)\n",
        ),
    ),
    _mutant(
        "fan-out: what was raised keeps it alive",
        "fan_out",
        ("_fan_out.py", "        self.forget()  # else", "        # else"),
    ),
    _mutant(
        "fan-out: room not given back",
        "fan_out",
        ("_fan_out.py", "functools.partial(self._free, turn))", "_nothing)"),
    ),
    _mutant(
        "fan-out: room given back before the hand-over",
        "fan_out",
        (
            "_fan_out.py",
            "            return self._add(result, functools.partial(self._free, turn))\n",
            "            return self._add(result, _nothing) and False\n",
        ),
    ),
    _mutant(
        "fan-out: a failed conference keeps its turn",
        "fan_out fan_out_properties",
        (
            "_fan_out.py",
            "        if result is None or not self._is_ready(result, turn):\n            self._free(turn)\n",
            "        if result is None or not self._is_ready(result, turn):\n            self._room += 1\n            self._has_room.set()\n",
        ),
    ),
    _mutant(
        "fan-out: closed shown as the end",
        "fan_out beginning_anew",
        (
            "_fan_out.py",
            "            raise StopAsyncIteration\n        if self._closed:\n            raise _closed()\n",
            "            raise StopAsyncIteration\n        if self._closed:\n            raise StopAsyncIteration\n",
        ),
    ),
    _mutant(
        "fan-out: used up begins anew",
        "beginning_anew",
        (
            "_fan_out.py",
            "        if self.used_up:\n            message",
            "        if False:\n            message",
        ),
    ),
    _mutant(
        "fan-out: closed begins anew",
        "beginning_anew fan_out",
        (
            "_fan_out.py",
            "            raise InvalidRequestError(message)\n        if self._closed:\n            raise _closed()\n",
            "            raise InvalidRequestError(message)\n",
        ),
    ),
    _mutant(
        "fan-out: a raised error leads past records that were not handed out",
        "cursors",
        (
            "_fan_out.py",
            "        error.cursor_after = None\n",
            "        pass\n",
        ),
    ),
    _mutant(
        "fan-out: a source that closes it is cancelled",
        "fan_out",
        (
            "_fan_out.py",
            "            if task not in sparing and task is not caller:",
            "            if task not in sparing:",
        ),
    ),
    _mutant(
        "fan-out: source drained ahead of room",
        "fan_out",
        (
            "_fan_out.py",
            "        await crew.has_room()\n        sid = await crew.pull()\n",
            "        sid = await crew.pull()\n        await crew.has_room()\n",
        ),
    ),
    _mutant(
        "fan-out: a failure ends all",
        "fan_out fan_out_properties",
        (
            "_fan_out.py",
            "if result.error is not None and self._raising:",
            "if result.error is not None:",
        ),
    ),
    _mutant(
        "fan-out: records before a failure lost",
        "fan_out_properties",
        (
            "_fan_out.py",
            "participants=tuple(records),",
            "participants=() if error else tuple(records),",
        ),
    ),
    _mutant(
        "fan-out: raise keeps the others running",
        "fan_out",
        (
            "_fan_out.py",
            "            self._cancel_all(sparing=whole)\n",
            "",
        ),
    ),
    _mutant(
        "fan-out: raise takes what is complete along",
        "fan_out",
        ("_fan_out.py", "() if self.merging else self._complete()", "()"),
    ),
    _mutant(
        "what a page has read waits for the collector",
        "stream",
        ("_prefetching.py", "for waiter in arrival:", "for waiter in self._arrival:"),
    ),
    _mutant(
        "fan-out: raise before all is gone",
        "fan_out",
        ("_fan_out.py", "self._feeder is not None or self._running:", "self._failure is None:"),
    ),
    _mutant(
        "fan-out: a raised error's cursor skips what was not handed out",
        "fan_out",
        (
            "_fan_out.py",
            "result.error if self.merging else _from_the_start(result.error)",
            "result.error",
        ),
    ),
    _mutant(
        "fan-out: cancelled wait loses a result",
        "fan_out fan_out_properties",
        (
            "_fan_out.py",
            "            await self._changed.wait()\n",
            "            try:\n"
            "                await self._changed.wait()\n"
            "            except asyncio.CancelledError:\n"
            "                self._ready and self._ready.popleft()[1]()\n"
            "                raise\n",
        ),
    ),
    _mutant(
        "fan-out: closed session shown as the end",
        "fan_out",
        (
            "_fan_out.py",
            "            self._fail(self._interrupted(None))\n",
            "            pass\n",
        ),
        (
            "_fan_out.py",
            "            self._fail(self._interrupted(sid))\n",
            "            pass\n",
        ),
    ),
    _mutant(
        "fan-out: a source that swallows a cancellation taken for the end",
        "fan_out",
        (
            "_fan_out.py",
            "if feeder.cancelling() or crew.is_ending():",
            "if False:",
        ),
    ),
    _mutant(
        "fan-out: a task cancelled from outside just vanishes",
        "fan_out",
        (
            "_fan_out.py",
            "if stream is None or crew.is_ending():",
            "if True:",
        ),
        (
            "_fan_out.py",
            "                return ConferenceResult(conference_sid=sid, error=_cancelled(sid, None))\n",
            "                return None\n",
        ),
    ),
    _mutant(
        "fan-out: results handed out after closing",
        "fan_out",
        (
            "_fan_out.py",
            "        self._ready.clear()\n        self.rest = iter(())\n",
            "",
        ),
        (
            "_fan_out.py",
            "        if self._closed:\n            return False\n        self._ready",
            "        self._ready",
        ),
    ),
    _mutant(
        "fan-out: all decode at once",
        "fan_out",
        ("_fan_out.py", "            await self._turns.acquire()\n", ""),
        ("_fan_out.py", "            self._turns.release()\n", ""),
    ),
    _mutant(
        "fan-out: a turn is kept while a page is fetched again",
        "fan_out",
        ("_fan_out.py", "            ahead.before_waiting = turn.give_up\n", ""),
    ),
    _mutant(
        "fan-out: pages wait for their turn to be fetched",
        "fan_out",
        ("_fan_out.py", "                await ahead.gather(_PAGES)\n", "                pass\n"),
    ),
    _mutant(
        "fan-out: merged offer not awaited",
        "fan_out",
        ("_fan_out.py", "        await taken.wait()\n", ""),
    ),
    _mutant(
        "fan-out: rest of a merged page belongs to its reader",
        "fan_out",
        (
            "_fan_out.py",
            "        self._crew.merging = True\n",
            "        self._crew.merging, self._crew.rest = True, iter(())\n",
        ),
    ),
    _mutant(
        "fan-out: deadline begins with the first request",
        "fan_out",
        ("_fan_out.py", "            self._starting()\n", ""),
    ),
    _mutant(
        "fan-out: tasks run in the reader's context",
        "fan_out",
        ("_fan_out.py", "self._context.copy(), name)", "contextvars.copy_context(), name)"),
    ),
    _mutant(
        "fan-out: closed from the wrong thread",
        "fan_out",
        (
            "_fan_out.py",
            "                cancel_threadsafe(task)\n",
            "                task.cancel()\n",
        ),
    ),
    # --- Pages ---
    _mutant(
        "link's path not compared",
        "paging",
        (
            "_paging.py",
            " and parts.path.lower() == path.lower()\n",
            "\n",
        ),
    ),
    _mutant(
        "case of a link's path counts",
        "paging",
        (
            "_paging.py",
            "parts.path.lower() == path.lower()",
            "parts.path == path",
        ),
    ),
    _mutant(
        "empty link refused",
        "paging",
        (
            "_paging.py",
            "        if not link:\n            return None\n        query",
            "        if link is None:\n            return None\n        query",
        ),
    ),
    _mutant(
        "repeated page not noticed",
        "paging wrong_answers",
        (
            "_paging.py",
            "before[0] != look[0] and before[1] == look[1]:",
            "False:",
        ),
    ),
    _mutant(
        "page taken for one that repeats by its beginning",
        "paging",
        (
            "_decoding.py",
            "        return end - start, opening, bytes(self._body[max(start, end - _WINDOW) : end])",
            '        return 0, opening, b""',
        ),
    ),
    _mutant(
        "another attempt taken for a repeated page",
        "paging",
        (
            "_paging.py",
            "before is not None and before[0] != look[0] and",
            "before is not None and",
        ),
    ),
    _mutant(
        "empty pages without end",
        "paging",
        (
            "_paging.py",
            "elif self._empty_pages > _MOST_EMPTY_PAGES:",
            "elif False:",
        ),
    ),
    _mutant(
        "empty pages counted over the whole list",
        "paging",
        (
            "_paging.py",
            "            return\n        self._empty_pages = 0\n",
            "            return\n",
        ),
    ),
    _mutant(
        "page of another conference delivered",
        "paging wrong_answers",
        (
            "_paging.py",
            "            if _is_of_another(request, records, meta):",
            "            if False:",
        ),
    ),
    _mutant(
        "page of another conference is final",
        "paging wrong_answers",
        (
            "_paging.py",
            "return ResponseError(message, transient=True)",
            "return ResponseError(message)",
        ),
    ),
    _mutant(
        "conference of a member of a record taken for its own",
        "paging",
        (
            "_paging.py",
            "    return _first_conference(records) not in {own, None}",
            "    return True",
        ),
    ),
    _mutant(
        "connection with another conference's page kept",
        "wrong_answers",
        (
            "_call.py",
            "            response.close_connection()\n",
            "            pass\n",
        ),
    ),
    _mutant(
        "link's host used",
        "security",
        (
            "_paging.py",
            "Request(path=request.path, query=query",
            'Request(path=link.partition("?")[0], query=query',
        ),
        (
            "_paging.py",
            " and parts.path.lower() == path.lower()\n",
            " and parts.path.endswith(path)\n",
        ),
        (
            "_transport.py",
            'URL(f"{self._base_url}{request.path}?{request.query}", encoded=True)',
            'URL(("" if "://" in request.path else self._base_url)'
            ' + f"{request.path}?{request.query}", encoded=True)',
        ),
        (
            "_transport.py",
            "if (url.scheme, url.raw_authority, url.raw_path) != own:",
            "if False:",
        ),
    ),
    _mutant(
        "loop not noticed",
        "paging",
        (
            "_paging.py",
            "elif self._seen.setdefault(query, request.query) != request.query:",
            "elif False:",
        ),
    ),
    _mutant(
        "lost next link taken for the end",
        "paging",
        ("_paging.py", 'if "next_page_url" not in meta:', "if False:"),
    ),
    # --- Retries ---
    _mutant(
        "quota never filled by time",
        "retrying",
        ("_retrying.py", "began - self._last_fault >= _QUIET_SECONDS", "False"),
    ),
    _mutant(
        "quota filled by time that is not quiet",
        "retrying",
        ("_retrying.py", "if began - self._last_fault >=", "if now - self._last_fault >="),
    ),
    _mutant(
        "successes earn too little",
        "retrying",
        ("_retrying.py", "_EARNED: Final = 1.0", "_EARNED: Final = 0.5"),
    ),
    _mutant(
        "429 drawn from the quota",
        "retrying",
        (
            "_retrying.py",
            "error is None or isinstance(error, RateLimitError) or self._quota.take()",
            "error is None or self._quota.take()",
        ),
    ),
    _mutant(
        "429 taken for a fault",
        "retrying",
        (
            "_retrying.py",
            "error.transient and not isinstance(error, RateLimitError)",
            "error.transient",
        ),
    ),
    _mutant(
        "used up quota not told in the error",
        "retrying",
        ("_retrying.py", "error.args = (f", "error.__dict__['why'] = (f"),
    ),
    _mutant(
        "denied retry told although the deadline denied it",
        "observing",
        (
            "_retrying.py",
            "        if last or too_long or self._too_late:\n            return True\n",
            "        if last or too_long:\n            return True\n",
        ),
    ),
    _mutant(
        "denied retry not told",
        "observing",
        ("_call.py", "if run.denied is not None:", "if False:"),
    ),
    # --- The limiter ---
    _mutant(
        "plateau forgotten at the first success",
        "limiter",
        ("_limiter.py", "max(refused_at, self._plateau * _KEEP**self._quiet)", "refused_at"),
    ),
    _mutant(
        "plateau never lowered by successes",
        "limiter",
        ("_limiter.py", "self._plateau * _KEEP**self._quiet", "self._plateau"),
    ),
    _mutant(
        "a lone refusal costs all",
        "limiter",
        ("_limiter.py", "_IN_USE: Final = 0.5", "_IN_USE: Final = 0.0"),
    ),
    _mutant(
        "a lone refusal costs next to nothing",
        "limiter",
        ("_limiter.py", "_IN_USE: Final = 0.5", "_IN_USE: Final = 1.0"),
    ),
    _mutant(
        "budget ignored",
        "retrying",
        (
            "_retrying.py",
            "too_long = self._spent() + state.upcoming_sleep >= self._policy.budget",
            "too_long = False",
        ),
    ),
    _mutant(
        "deadline ignored by waits",
        "retrying",
        (
            "_retrying.py",
            "self._too_late = left == 0 or (not last and state.upcoming_sleep >= left)",
            "self._too_late = False",
        ),
    ),
    _mutant(
        "deadline ignored by queueing",
        "deadlines",
        (
            "_call.py",
            "asyncio.timeout(None if left == math.inf else left)",
            "asyncio.timeout(None)",
        ),
    ),
    _mutant(
        "deadline guessed from the kind of error",
        "deadlines session",
        (
            "_call.py",
            "                if timer.expired():",
            "                if isinstance(error, TimeoutError):",
        ),
    ),
    _mutant(
        "refused page token told as any bad request",
        "cursors security",
        (
            "_call.py",
            'if request is self.resumed and "PageToken=" in request.query:',
            "if False:",
        ),
    ),
    _mutant(
        "Retry-After ignored",
        "retrying",
        ("_retrying.py", "return _floor(_error_of(state)) + backoff", "return backoff"),
    ),
    _mutant(
        "jitter ignored",
        "retrying",
        (
            "_retrying.py",
            "self._rng.uniform(0.0, min(self._policy.max_delay, doubled))",
            "min(self._policy.max_delay, doubled)",
        ),
    ),
    _mutant(
        "slot kept",
        "session",
        (
            "_call.py",
            "        async with self.limiter.slot() as slot, self.shared():\n",
            "        if slot := await self.limiter.slot().__aenter__():\n",
        ),
    ),
    _mutant(
        "slot held while backing off",
        "session",
        (
            "_call.py",
            "                    return await run.result_of(",
            "                    async with self.limiter.slot():\n"
            "                      return await run.result_of(",
        ),
        (
            "_call.py",
            "        async with self.limiter.slot() as slot, self.shared():\n",
            "        if slot := self.limiter.slot():\n",
        ),
    ),
    # --- Limiters that are not ours ---
    _mutant(
        "release cancelled half-way",
        "shared_limiter",
        (
            "_shared_limiter.py",
            "            await wait_ignoring_cancellation([task], seconds=_RELEASE_SECONDS)\n            if task.done()",
            "            await task\n            if task.done()",
        ),
    ),
    _mutant(
        "release waited for without a bound",
        "shared_limiter",
        (
            "_shared_limiter.py",
            "[task], seconds=_RELEASE_SECONDS)",
            "[task], seconds=9e9)",
        ),
    ),
    _mutant(
        "what a limiter raises let through",
        "shared_limiter",
        (
            "_shared_limiter.py",
            '            raise _failure(error, "acquire") from error\n',
            "            raise\n",
        ),
    ),
    _mutant(
        "error of an attempt lost to that of a release",
        "shared_limiter",
        (
            "_shared_limiter.py",
            "            if error is None:\n",
            "            if True:\n",
        ),
    ),
    _mutant(
        "release left running by a closed session",
        "tasks",
        (
            "_tasks.py",
            "for running in (self._tasks, self._releases):",
            "for running in (self._tasks,):",
        ),
    ),
    # --- The wire ---
    _mutant(
        "redirects followed",
        "session security",
        ("_transport.py", "allow_redirects=False", "allow_redirects=True"),
    ),
    _mutant(
        "bodies without a bound",
        "session faults",
        ("_transport.py", "if size > LARGEST_BODY:", "if False:"),
    ),
    _mutant(
        "refused certificate tried again",
        "faults",
        (
            "_transport_errors.py",
            '"the server\'s certificate was refused", remedy, False',
            '"the server\'s certificate was refused", remedy, True',
        ),
    ),
    _mutant(
        "cookies kept",
        "security",
        (
            "_transport.py",
            "            cookie_jar=aiohttp.DummyCookieJar(),  # nothing",
            "            # nothing",
        ),
    ),
    _mutant(
        "environment trusted",
        "security",
        ("_transport.py", "trust_env=False", "trust_env=True"),
    ),
    _mutant(
        "aiohttp's errors chained",
        "session security",
        (
            "_transport.py",
            "            failure = translated(error, request.conference_sid, closed=http.closed)\n",
            "            raise translated(error, request.conference_sid, closed=http.closed) from error\n",
        ),
    ),
    _mutant(
        "session closed before its tasks",
        "cancellation",
        (
            "_session.py",
            "            await self._tasks.aclose(sparing=caller)\n",
            "            self._tasks.closed = True\n",
        ),
    ),
    _mutant(
        "session closed by a task of its own cancels it",
        "closing_from_within",
        (
            "_session.py",
            "await self._tasks.aclose(sparing=caller)",
            "await self._tasks.aclose()",
        ),
    ),
    _mutant(
        "wire: gateways' 5xx taken for final",
        "errors",
        (
            "errors.py",
            "StatusRule(ServerError, _SERVER, transient=True)",
            "StatusRule(ServerError, _SERVER)",
        ),
    ),
    _mutant(
        "wire: a trace hook's exception taken for aiohttp's",
        "transport_errors",
        (
            "_transport_errors.py",
            "if isinstance(each, Exception) and _is_of_hook(each):",
            "if False:",
        ),
    ),
    _mutant(
        "wire: a connector's exception taken for aiohttp's",
        "transport_errors",
        (
            "_transport_errors.py",
            "return raised if raised is not None and _is_of_somebody_else(raised) else None",
            "return None",
        ),
    ),
    _mutant(
        "wire: a trace hook's error swallows a cancellation",
        "transport_errors",
        (
            "_transport_errors.py",
            "return next(found, None) if _is_cancelled() else None",
            "return None",
        ),
    ),
    _mutant(
        "wire: aiohttp's frames left in a user's exception",
        "transport_errors",
        ("_transport_errors.py", "each.__traceback__ = _users_frames(each.__traceback__)", "pass"),
    ),
    _mutant(
        "wire: any RuntimeError taken for a closed session",
        "transport_errors",
        (
            "_transport_errors.py",
            "    if closed:\n",
            "    if closed or isinstance(error, RuntimeError):\n",
        ),
    ),
    _mutant(
        "wire: our own defect taken for a fault of the wire",
        "transport_errors",
        (
            "_transport_errors.py",
            "return _top(_module(_frames(error)[-1])) == _PACKAGE",
            "return False",
        ),
    ),
    _mutant(
        "wire: a lookup without a bound",
        "transport_errors",
        ("_transport.py", "asyncio.timeout(self._seconds)", "asyncio.timeout(None)"),
    ),
    _mutant(
        "wire: the connection of a reply left open",
        "transport_errors",
        ("_transport.py", 'getattr(transport, "abort", do_nothing)', "do_nothing"),
    ),
    _mutant(
        "wire: an int that no float can hold let through",
        "numbers",
        (
            "_transport.py",
            'cast("float", value) <= sys.float_info.max',
            'cast("float", value) < float("inf")',
        ),
    ),
    _mutant(
        "wire: the cause lost in a copy",
        "errors",
        ("errors.py", "    again.__cause__ = error.__cause__\n", ""),
    ),
    # --- Records ---
    _mutant(
        "types not checked",
        "structuring",
        ("_structuring.py", "            if fits or self.fits(value):\n", "            if True:\n"),
    ),
    _mutant(
        "nested types not checked",
        "structuring",
        (
            "_structuring.py",
            " and {inside} or {own} is None)",
            " or {own} is None)",
        ),
    ),
    _mutant(
        "infinity let through",
        "structuring",
        ("_structuring.py", "is float and v * 0.0 == 0.0 or", "is float or"),
    ),
    _mutant(
        "unknown members dropped",
        "structuring",
        ("_structuring.py", "            plan = _keeping_extra(plan, unknown)", "            pass"),
    ),
    _mutant(
        "value that does not fit dropped",
        "structuring",
        (
            "_structuring.py",
            "            kept[key], remark = _kept(item)",
            "            _, remark = _kept(item)",
        ),
    ),
    _mutant(
        "problems not told",
        "structuring",
        ("_structuring.py", "problems=problems)", "problems=())"),
    ),
    _mutant(
        "next link of a wrong type taken for the end",
        "structuring",
        ("_structuring.py", "if meta is not None and link is None:", "if meta is not None:"),
    ),
    _mutant(
        "what is made by hand not checked",
        "structuring",
        ("_structuring.py", "        put(record, check(value))", "        put(record, value)"),
    ),
    _mutant(
        "names in paths as they came",
        "structuring",
        ("_structuring.py", "    if name.isprintable():\n", "    if name:\n"),
    ),
    _mutant(
        "label shown",
        "models",
        (
            "models.py",
            "    label: str | None = attrs.field(default=None, repr=_masked)",
            "    label: str | None = attrs.field(default=None)",
        ),
    ),
    # --- Events, statistics, log lines and spans ---
    _mutant(
        "retries not counted",
        "observing",
        ("_telemetry.py", 'counts["retries"] += 1', 'counts["retries"] += 0'),
    ),
    _mutant(
        "attempts in flight counted upwards only",
        "observing",
        ("_telemetry.py", 'counts["in_flight"] -= 1', 'counts["in_flight"] -= 0'),
    ),
    _mutant(
        "callback's exception let through",
        "observing",
        (
            "_telemetry.py",
            "            except Exception:\n                _LOGGER.exception(",
            "            except ArithmeticError:\n                _LOGGER.exception(",
        ),
    ),
    _mutant(
        "async callback accepted where it is an object",
        "observing",
        (
            "_telemetry.py",
            "        for each in (function, type(function).__call__)",
            "        for each in (function,)",
        ),
    ),
    _mutant(
        "query in events and log lines",
        "observing",
        (
            "_call.py",
            "sid, began = request.conference_sid, time.monotonic()",
            'sid, began = f"{request.conference_sid}?{request.query}", time.monotonic()',
        ),
    ),
    _mutant(
        "cancelled attempt never told as finished",
        "observing",
        (
            "_call.py",
            "        except BaseException as error:\n            # The latter",
            "        except Exception as error:\n            # The latter",
        ),
    ),
    _mutant(
        "thrown-away attempt told as a failure",
        "observing",
        ("_call.py", "(asyncio.CancelledError, GeneratorExit)", "asyncio.CancelledError"),
    ),
    _mutant(
        "retry told with the wrong delay",
        "observing",
        ("_call.py", "delay=attempt.delay or 0.0", "delay=attempt.seconds"),
    ),
    _mutant(
        "records counted that were not handed out",
        "observing",
        (
            "_stream.py",
            "self._index - self._since, page.request_id",
            "self._index, page.request_id",
        ),
    ),
    _mutant(
        "list told again at each further call",
        "observing",
        (
            "_stream.py",
            "        if self._used_up:\n            raise StopAsyncIteration\n",
            "        if self._used_up:\n            raise self._finished()\n",
        ),
    ),
    _mutant(
        "list of a closed session not told",
        "observing",
        (
            "_prefetching.py",
            "            if self._tasks.closed:\n                return self._failed(session_closed())\n",
            "",
        ),
    ),
    _mutant(
        "no SID told as it was given",
        "observing",
        ("_session.py", "conference_sid=None, pages=0", "conference_sid=conference_sid, pages=0"),
    ),
    _mutant(
        "span not ended on close or drop",
        "observing",
        (
            "_prefetching.py",
            '    def abandon(self) -> None:\n        """Cancel what is on its way, as nobody will take it; from whatever thread."""\n        self._watch.left()\n',
            '    def abandon(self) -> None:\n        """Cancel what is on its way, as nobody will take it; from whatever thread."""\n',
        ),
        (
            "_prefetching.py",
            "            self._watch.left()\n            return\n",
            "            return\n",
        ),
    ),
    _mutant(
        "span not current for the attempts",
        "observing",
        (
            "_telemetry.py",
            "    context.attach(trace.set_span_in_context(current))\n",
            "",
        ),
    ),
    _mutant(
        "span current for the caller as well",
        "observing",
        (
            "_telemetry.py",
            "context.run(_new_current_span, self._tracer, self._sid)",
            "_new_current_span(self._tracer, self._sid)",
        ),
    ),
    _mutant(
        "span of a failure without its status",
        "observing",
        ("_telemetry.py", "    span.set_status(StatusCode.ERROR, str(error))\n", ""),
    ),
    # --- The commands, and the fake ---
    _mutant(
        "environment shown by help",
        "help",
        (
            "_session.py",
            "cls, environ: Mapping[str, str] | None = None, **options",
            "cls, environ: Mapping[str, str] | None = os.environ, **options",
        ),
    ),
    _mutant(
        "message to stdout where stderr is closed",
        "cli",
        (
            "_cli/_streams.py",
            "    stream = sys.stderr\n    if _is_missing(stream):\n        return\n",
            "    stream = sys.stderr or sys.stdout\n",
        ),
    ),
    _mutant(
        "socket in the place of a closed stream",
        "cli",
        ("_cli/__init__.py", "    fill_descriptors()\n", ""),
    ),
    _mutant(
        "part of a write taken for all of it",
        "cli",
        ("_cli/_streams.py", "rest = rest[count:]", "rest = rest[len(rest) :]"),
    ),
    _mutant(
        "way on behind a page that is not written",
        "cli",
        (
            "_cli/_list.py",
            'output.write("".join(lines))',
            'output.cursor = stream.cursor; output.write("".join(lines))',
        ),
    ),
    _mutant(
        "whole limit left",
        "cli",
        ("_cli/_streams.py", "{self.limit - self.records}", "{self.limit}"),
    ),
    _mutant(
        "signal waits for a reader that has stopped",
        "cli",
        ("_cli/_signals.py", "(again or self._output.is_writing)", "again"),
    ),
    _mutant(
        "ignored signal taken all the same",
        "cli",
        ("_cli/_signals.py", "if handler is not signal.SIG_IGN:", "if handler is not None:"),
    ),
    _mutant(
        "terminal obeys a table",
        "cli",
        ("_cli/_table.py", "printable(column.cell(item))", "column.cell(item)"),
    ),
    _mutant(
        "terminal obeys a message",
        "cli",
        ("_cli/_streams.py", "{printable(line)}", "{line}"),
    ),
    _mutant(
        "NO_PROXY unread",
        "cli",
        ("_cli/_proxies.py", " or proxy_bypass(origin.netloc)", ""),
    ),
    _mutant(
        "participants not copied",
        "fake_insights",
        ("testing/_records.py", "json.loads(json.dumps(given, default=_as_dict))", "dict(given)"),
    ),
    _mutant(
        "cached pages of an earlier port",
        "fake_insights",
        (
            "testing/_fake.py",
            "        self._pages.clear()\n        for record in",
            "        for record in",
        ),
    ),
]
