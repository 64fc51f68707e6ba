"""Faults in `_tasks` and `_shared_limiter`."""

from __future__ import annotations

from engine import Fault, assign, drop, never, omit, raises, replace, reraise, returns, rewrite

_WAIT = "_tasks:wait_ignoring_cancellation"

FAULTS = [
    Fault(
        "a task is cancelled from the wrong thread",
        "test_stream.py::test_drop_in_another_thread",
        {"_tasks:cancel_threadsafe": replace("call_soon_threadsafe(task.cancel)", "task.cancel()")},
    ),
    Fault(
        "closing stops waiting when it is cancelled",
        "test_tasks.py::test_cancelled_on_every_turn",
        {_WAIT: rewrite("_wait(pending, ...)", "await asyncio.wait(pending, timeout=left)")},
    ),
    Fault(
        "closing waits for a turn of the loop in which nobody cancels it",
        "test_tasks.py::test_cancelled_on_every_turn",
        {
            _WAIT: [
                rewrite(
                    "_wait([next_turn], ...)",
                    "try:\n"
                    "    await asyncio.sleep(0)\n"
                    "    break\n"
                    "except asyncio.CancelledError as error:\n"
                    "    first = first or error",
                ),
                replace("next_turn.done()", "False"),
            ]
        },
    ),
    Fault(
        "closing waits without a limit",
        "test_tasks.py::test_a_task_that_does_not_end",
        {_WAIT: assign("left", "1e9")},
    ),
    Fault(
        "closing waits for a task that waits for it",
        "test_tasks.py::test_no_task_waits_for_itself",
        {"_tasks:_waits_for": drop("_waits.get(each, ())")},
    ),
    Fault(
        "closing waits for its own task",
        "test_tasks.py::test_no_task_waits_for_itself",
        {"_tasks:_waits_for": never("each is target")},
    ),
    Fault(
        "closing swallows its own cancellation",
        "test_tasks.py::test_cancelled_on_every_turn",
        {_WAIT: never("first is not None")},
    ),
    Fault(
        "closing raises a cancellation of its own",
        "test_tasks.py::test_cancelled_on_every_turn",
        {_WAIT: raises("first", "asyncio.CancelledError")},
    ),
    Fault(
        "closing raises the last cancellation",
        "test_tasks.py::test_cancelled_on_every_turn",
        {"_tasks:_wait": returns("first or error", "error")},
    ),
    Fault(
        "a release is left running by a closed session",
        "test_tasks.py::test_a_release_starts_while_the_session_closes",
        {"_tasks:SessionTasks.aclose": omit("self._releases")},
    ),
    Fault(
        "a release is cancelled half-way",
        "test_shared_limiter.py::test_shared_release_completes",
        {"_shared_limiter:_Pair.__aexit__": replace("wait_ignoring_cancellation(...)", "task")},
    ),
    Fault(
        "a release is waited for without a limit",
        "test_shared_limiter.py::test_shared_release_that_hangs",
        {"_shared_limiter:_Pair.__aexit__": replace("_RELEASE_SECONDS", "9e9")},
    ),
    Fault(
        "an exception of a shared limiter is not translated",
        "test_shared_limiter.py::test_shared_limiter_that_fails",
        {"_shared_limiter:Permit.__aenter__": reraise("Exception")},
    ),
    Fault(
        "an attempt's error is lost to that of a release",
        "test_shared_limiter.py::test_shared_release_that_fails_after_the_attempt",
        {"_shared_limiter:Permit.__aexit__": replace("error is None", "True")},
    ),
]
