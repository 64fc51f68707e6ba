"""Faults in `_tasks` and `_shared_limiter`."""

from __future__ import annotations

from engine import Fault, assign, drop, handle, never, omit, raises, replace, reraise, rewrite

_WAIT = "_tasks:wait_ignoring_cancellation"

FAULTS = [
    Fault(
        "a task is cancelled from the wrong thread",
        "test_stream.py",
        {"_tasks:cancel_threadsafe": replace("call_soon_threadsafe(task.cancel)", "task.cancel()")},
    ),
    Fault(
        "closing stops waiting when it is cancelled",
        "test_tasks.py",
        {_WAIT: reraise("asyncio.CancelledError", trying="pending")},
    ),
    Fault(
        "closing waits for a turn of the loop in which nobody cancels it",
        "test_tasks.py",
        {
            _WAIT: [
                rewrite("asyncio.wait([next_turn])", "await asyncio.sleep(0)\nbreak"),
                replace("next_turn.done()", "False"),
            ]
        },
    ),
    Fault("closing waits without a bound", "test_tasks.py", {_WAIT: assign("left", "1e9")}),
    Fault(
        "closing waits for a task that waits for it",
        "test_tasks.py",
        {"_tasks:_waits_for": drop("_waits.get(each, ())")},
    ),
    Fault(
        "closing waits for its own task",
        "test_tasks.py",
        {"_tasks:_waits_for": never("each is target")},
    ),
    Fault(
        "closing swallows its own cancellation",
        "test_tasks.py",
        {_WAIT: never("first is not None")},
    ),
    Fault(
        "closing raises a cancellation of its own",
        "test_tasks.py",
        {_WAIT: raises("first", "asyncio.CancelledError")},
    ),
    Fault(
        "closing raises the last cancellation",
        "test_tasks.py",
        {_WAIT: handle("asyncio.CancelledError", "first = error", trying="next_turn")},
    ),
    Fault(
        "a release is left running by a closed session",
        "test_tasks.py",
        {"_tasks:SessionTasks.aclose": omit("self._releases")},
    ),
    Fault(
        "a release is cancelled half-way",
        "test_shared_limiter.py",
        {"_shared_limiter:_Pair.__aexit__": replace("wait_ignoring_cancellation(...)", "task")},
    ),
    Fault(
        "a release is waited for without a bound",
        "test_shared_limiter.py",
        {"_shared_limiter:_Pair.__aexit__": replace("_RELEASE_SECONDS", "9e9")},
    ),
    Fault(
        "an exception of a shared limiter is not translated",
        "test_shared_limiter.py",
        {"_shared_limiter:Permit.__aenter__": reraise("Exception")},
    ),
    Fault(
        "an attempt's error is lost to that of a release",
        "test_shared_limiter.py",
        {"_shared_limiter:Permit.__aexit__": replace("error is None", "True")},
    ),
]
