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
        ("_stream.py", "weakref.finalize(self, _abandon, self._flight).atexit = False", "pass"),
    ),
    _mutant(
        "finaliser cancels from the wrong thread",
        "stream",
        ("_stream.py", "loop.call_soon_threadsafe(task.cancel)", "task.cancel()"),
    ),
    _mutant(
        "error shown as the end",
        "stream",
        ("_stream.py", "raise self._error\n", "raise StopAsyncIteration\n"),
    ),
    _mutant(
        "closed session shown as the end",
        "cancellation",
        ("_stream.py", "raise self._failed(self._cancelled())", "raise StopAsyncIteration"),
    ),
    _mutant(
        "cancelled wait takes the page along",
        "stream",
        (
            "_stream.py",
            "        if not task.done():\n            await asyncio.wait([task])",
            "        if not task.done():\n            await task",
        ),
    ),
    _mutant(
        "closing gives up when it is cancelled",
        "stream cancellation",
        (
            "_stream.py",
            "            await asyncio.wait(pending)\n"
            "        except asyncio.CancelledError:\n            cancelled = True",
            "            await asyncio.wait(pending)\n"
            "        except asyncio.CancelledError:\n            raise",
        ),
    ),
    _mutant(
        "closing swallows its own cancellation",
        "stream cancellation",
        (
            "_stream.py",
            "    if cancelled:\n        raise asyncio.CancelledError",
            "    if cancelled:\n        return",
        ),
    ),
    _mutant(
        "closing does not cancel the page",
        "stream",
        (
            "_stream.py",
            "        task.cancel()\n        await settle([cast",
            "        await settle([cast",
        ),
    ),
    _mutant(
        "no page ahead",
        "stream session",
        ("_stream.py", "        await self._look_ahead()\n", "        pass\n"),
    ),
    _mutant(
        "next request not given the time to leave",
        "session",
        (
            "_stream.py",
            "await asyncio.wait(waited, timeout=_DEPARTURE)",
            "await asyncio.wait(waited, timeout=0)",
        ),
    ),
    _mutant(
        "a request more than the limit needs",
        "stream",
        ("_stream.py", "if records.known >= end or", "if records.known > end or"),
    ),
    _mutant(
        "two at once not noticed",
        "stream",
        (
            "_stream.py",
            "        if self._busy:\n            message",
            "        if False:\n            message",
        ),
    ),
    _mutant(
        "good records of a page lost to a bad one",
        "stream",
        (
            "_stream.py",
            "if records or self._unshown:",
            "if (records and failure is None) or self._unshown:",
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
        "bad body is no reason to ask again",
        "faults properties",
        ("_stream.py", "isinstance(error, ResponseError) and error.transient", "False"),
    ),
    _mutant(
        "page ahead of a bad body kept",
        "properties",
        ("_stream.py", "if self._flight.dropped:", "if False:"),
        ("_stream.py", "if not self._flight.dropped and not", "if not"),
    ),
    _mutant(
        "bad body not counted as an attempt",
        "retrying faults",
        (
            "_retrying.py",
            "        if damage is not None:\n            self._began",
            "        if False:\n            self._began",
        ),
    ),
    _mutant(
        "refetched page taken for a circle",
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
            "            self._reader.go_on(_skip(self._text, at))\n",
            "            pass\n",
        ),
    ),
    _mutant(
        "record counted before it is seen to end",
        "decoding",
        (
            "_decoding.py",
            "        else:\n            raise ValueError\n\n    def _end",
            "        else:\n            self.known += 1\n\n    def _end",
        ),
    ),
    _mutant(
        "msgspec's refusal is the last word",
        "decoding",
        (
            "_finding.py",
            "        except _REFUSALS:\n            pass\n",
            "        except _REFUSALS as error:\n            raise fault_of(ValueError()).error() from error\n",
        ),
    ),
    _mutant(
        "loop gets no turn while records are taken",
        "stream",
        (
            "_stream.py",
            "                self._pause = min(self._index + _STRIDE, self._end)\n                await asyncio.sleep(0)",
            "                self._pause = min(self._index + _STRIDE, self._end)",
        ),
    ),
    # --- Cursors ---
    _mutant(
        "cursor off by one",
        "cursors",
        ("_stream.py", "return page.request, self._index", "return page.request, self._index + 1"),
    ),
    _mutant(
        "cursor forgotten at closing",
        "cursors",
        ("_stream.py", "self._place, self._index = self._position()", "self._index = 0"),
    ),
    _mutant(
        "shorter page taken for the end",
        "cursors",
        ("_stream.py", "if records.count is not None and start > records.count:", "if False:"),
    ),
    _mutant(
        "label left in the cursor",
        "cursors",
        ("_cursors.py", "return _CUT_OUT if personal else value", "return value"),
    ),
    _mutant(
        "filters not compared",
        "cursors",
        ("_cursors.py", "if of_list != _hash_of_list(first):", "if False:"),
    ),
    _mutant(
        "altered cursors accepted",
        "cursors",
        ("_cursors.py", "if checksum != _checksum(body):", "if False:"),
    ),
    # --- Pages ---
    _mutant(
        "link's path not compared",
        "paging",
        ("_paging.py", " and parts.path == path and ", " and "),
    ),
    _mutant(
        "link's host used",
        "security",
        (
            "_paging.py",
            "return attrs.evolve(request, query=query)",
            'return attrs.evolve(request, query=query, path=link.partition("?")[0])',
        ),
        ("_paging.py", " and parts.path == path and ", " and parts.path.endswith(path) and "),
        (
            "_transport.py",
            'URL(f"{self._base_url}{request.path}?{request.query}", encoded=True)',
            'URL(("" if "://" in request.path else self._base_url)'
            ' + f"{request.path}?{request.query}", encoded=True)',
        ),
        (
            "_transport.py",
            "if url.origin() != self._origin or url.raw_path != request.path:",
            "if False:",
        ),
    ),
    _mutant(
        "circle not noticed",
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
            "_session.py",
            "asyncio.timeout(None if left == math.inf else left)",
            "asyncio.timeout(None)",
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
            "_session.py",
            "        async with self._slots:\n",
            "        await self._slots.acquire()\n        if True:\n",
        ),
    ),
    _mutant(
        "slot held while backing off",
        "session",
        (
            "_session.py",
            "                    return await controller(self._attempt, request, run, departed)",
            "                    async with self._slots:\n"
            "                        return await controller(self._attempt, request, run, departed)",
        ),
        (
            "_session.py",
            "        async with self._slots:\n            response",
            "        if True:\n            response",
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
            "_transport.py",
            'who else may answer for the host.",\n        False,',
            'who else may answer for the host.",\n        True,',
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
            "            failure = error if isinstance(error, InsightsError) else _translated(error, request)\n",
            "            raise _translated(error, request) from error\n",
        ),
    ),
    _mutant(
        "session closed before its tasks",
        "cancellation",
        (
            "_session.py",
            "            await self._tasks.aclose()\n",
            "            self._tasks.closed = True\n",
        ),
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
        ("_structuring.py", "is float and -inf < v < inf or", "is float or"),
    ),
    _mutant(
        "unknown members dropped",
        "structuring",
        ("_structuring.py", "            plan = _keeping_extra(plan, unknown)", "            pass"),
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
]
