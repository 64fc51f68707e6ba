"""Runs with a time limit: one that hangs or spins fails, and reports where."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time

#: The time limit in seconds: far more than a run needs on a busy machine, and less than the
#: `faulthandler_timeout` that would end the whole suite.
PATIENCE = float(os.environ.get("AIOPARTICIPANTS_TEST_PATIENCE", "60"))

#: Tasks and loops of runs that hang: kept, as freeing them would only add warnings.
_KEPT = []


class _Watchdog:
    """Stops a loop that exceeds the time limit, and each further attempt to run it.

    That works for a loop that sleeps for ever and for one that spins. (pytest's faulthandler is for
    one that is blocked in a single turn.)
    """

    def __init__(self, patience, describe):
        self.patience = patience
        self.describe = describe
        self.loop = None
        self.report = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def watched(self, new_loop):
        self.loop = new_loop()
        self._thread.start()
        return self.loop

    def _watch(self):
        patience, began = self.patience, time.process_time()
        while not self._over.wait(patience):
            patience = 0.5  # for later runs of the same loop, which may hang, too
            with contextlib.suppress(RuntimeError):  # it is closed
                self.loop.call_soon_threadsafe(self._stop, time.process_time() - began)

    def _stop(self, seconds):
        if not self.report:
            tasks = [*asyncio.all_tasks(self.loop)]
            _KEPT.extend([self.loop, *tasks])
            stacks = "\n".join(_stack(task) for task in tasks)
            where = f" {self.describe()}" if self.describe else ""
            self.report = (
                f"not through after {self.patience:.0f} s, of which {seconds:.1f} s of CPU;{where} "
                f"its tasks:\n{stacks}"
            )
        self.loop.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._over.set()
        if self.report:
            raise AssertionError(self.report) from None


def run(work, new_loop=asyncio.new_event_loop, *, patience=PATIENCE, describe=None):
    """Run a coroutine as `asyncio.run` does; fail if that exceeds the time limit.

    `describe` returns how far it was.
    """
    with _Watchdog(patience, describe) as dog:
        runner = asyncio.Runner(loop_factory=lambda: dog.watched(new_loop))
        try:
            return runner.run(work)
        finally:
            if not dog.report:  # else closing would hang, too
                runner.close()


def _stack(task):
    """Return the frames in which a task waits, the outermost first."""
    lines, inner = [f"  {task.get_name()} (cancelled {task.cancelling()} times)"], task.get_coro()
    while inner is not None:
        if (frame := _first(inner, "cr_frame", "gi_frame", "ag_frame")) is not None:
            code = frame.f_code
            lines.append(f"    {code.co_filename}:{frame.f_lineno} {code.co_qualname}")
            inner = _first(inner, "cr_await", "gi_yieldfrom", "ag_await")
        else:  # it wraps a coroutine or a generator, and has no attribute for that
            wrapped = [each for each in gc.get_referents(inner) if hasattr(each, "send")]
            inner = wrapped[0] if wrapped and not isinstance(inner, asyncio.Future) else None
    return "\n".join(lines)


def _first(item, *names):
    """Return the first of these attributes that exists, or None."""
    return next((getattr(item, name) for name in names if hasattr(item, name)), None)
