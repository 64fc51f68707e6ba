"""Faults in `_retrying`."""

from __future__ import annotations

from engine import Fault, always, assign, never, omit, replace, returns, rewrite, swap

_FAILED = "_retrying:RetryQuota.failed"
_RECORD = "_retrying:RetryRun._record_failure"
_STOP = "_retrying:RetryRun._stop_reason"

FAULTS = [
    # --- The quota ---
    Fault(
        "quiet time does not fill the quota",
        "test_retrying.py::test_quiet_time_fills_the_quota",
        {_FAILED: never("_QUIET_SECONDS")},
    ),
    Fault(
        "time that is not quiet fills the quota",
        "test_retrying.py::test_time_does_not_feed_a_dead_server",
        {_FAILED: replace("began - self._last_fault", "now - self._last_fault")},
    ),
    Fault(
        "a success earns less than a retry",
        "test_retrying.py::test_successes_fill_the_quota",
        {"_retrying:": assign("_EARNED", "0.5")},
    ),
    Fault(
        "a 429 takes from the quota",
        "test_retrying.py::test_what_a_retry_costs",
        {"_retrying:RetryRun.record_retry": always("_takes_quota")},
    ),
    Fault(
        "a 429 is not retried when the quota is used up",
        "test_retrying.py::test_no_retries_in_an_outage",
        {_STOP: omit("self._takes_quota")},
    ),
    Fault(
        "a 429 is no quiet time",
        "test_retrying.py::test_refusals_are_no_faults",
        {_RECORD: replace("self._takes_quota", "error.transient")},
    ),
    Fault(
        "an error does not say that the quota is used up",
        "test_retrying.py::test_an_error_tells_that_the_quota_was_used_up",
        {
            "_retrying:RetryRun.final_error": rewrite(
                "error.args", "error.__dict__['why'] = _USED_UP"
            )
        },
    ),
    Fault(
        "a retry that the deadline denies is blamed on the quota",
        "test_telemetry.py::test_a_retry_without_time",
        {_STOP: swap("left == 0", "is_used_up")},
    ),
    # --- Waits ---
    Fault(
        "Retry-After is ignored",
        "test_retrying.py::test_retry_after_is_a_floor",
        {_RECORD: replace("_retry_after(error) + self._backoff()", "self._backoff()")},
    ),
    Fault(
        "waits have no jitter",
        "test_retrying.py::test_jitter_is_full",
        {
            "_retrying:RetryRun._backoff": returns(
                "uniform(...)", "min(self._policy.max_delay, doubled)"
            )
        },
    ),
    Fault(
        "waits may pass the budget",
        "test_retrying.py::test_budget_ends_before_the_wait_that_would_pass_it",
        {_STOP: omit("self._spent() + self._delay >= self._policy.budget")},
    ),
    Fault(
        "waits may pass the deadline",
        "test_retrying.py::test_a_wait_that_would_pass_the_deadline_is_not_begun",
        {_STOP: never("self._delay >= left")},
    ),
]
