"""`SummaryWait`: asks for a conference until Twilio has finished its summary. Does no I/O itself.

1. A summary is finished when its `processing_state` is `complete`, or `timeout`: Twilio gives up
   after 24 hours. 30 minutes after the end of a conference are normal. Any other state, a word that
   is not known yet included, is waited for.
   https://www.twilio.com/docs/voice/voice-insights/api/conference/conference-summary-resource
2. Between two requests it waits for `poll` seconds on average. By default that is a fifth of the
   time since the first request, from 10 s to 300 s: about 25 requests in 30 minutes. Each wait is
   0.5 to 1.5 times as long, so that thousands of conferences do not ask in the same second.
3. A 404 means "not yet". A transient failure that the retries of the request could not fix may be a
   short outage, which must not end a wait of 30 minutes. So both are tolerated for `grace` seconds
   from the first of them in a row; after it the error is raised. Meanwhile the time for rule 2
   counts from there, too, and a `Retry-After` is added to the wait. One that is longer than what is
   left of the grace period is raised at once. Any other error is raised at once.
4. The deadline ends all of it, requests included. The last request is made shortly before it,
   however long the wait would be. The error says what Twilio last answered.
5. Nothing of it is stored anywhere: a new wait for the same conference just goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from ._arguments import checked_seconds
from ._tracebacks import stripped
from .errors import APIStatusError, DeadlineExceededError, InsightsError, NotFoundError
from .models import ProcessingState

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from ._retrying import Deadline
    from .errors import Attempt
    from .models import Conference, Participant

__all__ = ["NewWait", "OnFailure", "SummaryWait", "SummaryWaits", "is_final"]

#: The mean wait, where `poll` is None: this share of the time so far, and its bounds in seconds. A
#: larger share notices a summary later; a smaller one sends more requests.
_SHARE: Final = 0.2
_SHORTEST: Final = 10.0
_LONGEST: Final = 300.0
#: The last request is made at most this share of the deadline before it, and so many seconds.
_LAST_SHARE: Final = 0.1
_LAST_SECONDS: Final = 10.0


class OnFailure(Protocol):
    """Is called with what a wait failed with, and how long it took."""

    def __call__(
        self, error: InsightsError, /, *, conference_sid: str, seconds: float
    ) -> object: ...


class NewWait(Protocol):
    """Makes the wait for the summary of a conference, which sleeps by `sleep`."""

    def __call__(
        self, conference_sid: str, /, *, sleep: Callable[[float], Awaitable[None]]
    ) -> SummaryWait: ...


def is_final(record: Conference | Participant | None) -> bool:
    """Return whether there is a record, and Twilio will not change it any more."""
    if record is None:
        return False
    return record.processing_state in {ProcessingState.COMPLETE, ProcessingState.TIMEOUT}


def _poll(_instance: object, attribute: attrs.Attribute[float | None], value: object) -> None:
    checked_seconds(value, attribute.name, positive=True, optional=True)


def _grace(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    checked_seconds(value, attribute.name)


@attrs.frozen(kw_only=True)
class SummaryWaits:
    """What the waits of one call have in common: one wait, or one for each of many conferences.

    Raises:
        InvalidRequestError: `poll` or `grace` is no such number of seconds.
    """

    ask: Callable[[str, Deadline], Awaitable[Conference]]
    """Requests a conference, by its SID and within a deadline; raises an InsightsError."""
    poll: float | None = attrs.field(validator=_poll)
    """Seconds between two requests, on average; None for what rule 2 says."""
    grace: float = attrs.field(validator=_grace)
    """Seconds for which a 404 or a transient failure is tolerated."""
    clock: Callable[[], float]
    """Returns seconds that never go back."""
    rng: random.Random
    """For the jitter."""
    on_failure: OnFailure
    """Called when a wait fails."""

    def new(
        self,
        conference_sid: str,
        *,
        deadline: Deadline,
        sleep: Callable[[float], Awaitable[None]],
    ) -> SummaryWait:
        """Return a wait for a conference; `sleep` waits for so many seconds."""
        return SummaryWait(conference_sid, deadline, sleep, self)

    def within(self, seconds: float, deadline: Deadline) -> NewWait:
        """Return what makes waits of that many seconds each, all of them within a deadline."""

        def new(conference_sid: str, *, sleep: Callable[[float], Awaitable[None]]) -> SummaryWait:
            return self.new(conference_sid, deadline=deadline.at_most(seconds), sleep=sleep)

        return new


class SummaryWait:
    """The wait for the summary of one conference.

    Attributes:
        latest: the conference as Twilio last described it; None if it did not yet.
    """

    def __init__(
        self,
        conference_sid: str,
        deadline: Deadline,
        sleep: Callable[[float], Awaitable[None]],
        waits: SummaryWaits,
    ) -> None:
        """Wait for a conference. Nothing is requested yet."""
        self.latest: Conference | None = None
        self._sid = conference_sid
        self._deadline = deadline
        self._sleep = sleep
        self._waits = waits
        self._began = 0.0
        #: When the first of the failed requests in a row was made; None if the last one succeeded.
        self._failing_since: float | None = None
        #: Why Twilio described no conference, to be named in an error.
        self._trouble = "Twilio has not answered yet"
        self._reserved = 0.0
        if deadline.seconds is not None:
            # Different for each conference, as thousands of them can have the same deadline.
            most = min(deadline.seconds * _LAST_SHARE, _LAST_SECONDS)
            self._reserved = most * waits.rng.uniform(0.5, 1.0)

    async def run(self) -> Conference:
        """Return the conference once its summary is finished; to be called once.

        Raises:
            DeadlineExceededError: the deadline passed before.
            InsightsError: what a request failed with, if rule 3 does not tolerate that.
        """
        self._deadline.start()
        self._began = self._waits.clock()
        try:
            return await self._run()
        except InsightsError as error:
            failure = stripped(error)
        seconds = self._waits.clock() - self._began
        self._waits.on_failure(failure, conference_sid=self._sid, seconds=seconds)
        raise failure

    async def _run(self) -> Conference:
        while True:
            asked_at, retry_after = self._waits.clock(), 0.0
            try:
                self.latest = conference = await self._waits.ask(self._sid, self._deadline)
            except InsightsError as error:
                retry_after = self._tolerated(error, asked_at)
            else:
                if is_final(conference):
                    return conference
                self._failing_since = None
            await self._sleep(self._delay(retry_after))

    def _tolerated(self, error: InsightsError, asked_at: float) -> float:
        """Return the seconds that the server asked to wait; raise what is not tolerated.

        Args:
            error: what the latest request failed with.
            asked_at: when that request was made.
        """
        if isinstance(error, DeadlineExceededError):
            raise self._deadline_exceeded(error.attempts)
        if not (error.transient or isinstance(error, NotFoundError)):
            raise error
        self._trouble = "Twilio did not answer as it should"
        if isinstance(error, NotFoundError):
            self._trouble = "Twilio has none yet (HTTP 404)"
        if self._failing_since is None:
            self._failing_since = asked_at
        retry_after = _retry_after(error)
        if self._waits.clock() + retry_after - self._failing_since >= self._waits.grace:
            raise error
        return retry_after

    def _delay(self, retry_after: float) -> float:
        """Return the seconds to wait before the next request; raise if the deadline is too soon."""
        waits = self._waits
        mean = waits.poll
        if mean is None:
            since = self._began if self._failing_since is None else self._failing_since
            mean = min(max((waits.clock() - since) * _SHARE, _SHORTEST), _LONGEST)
        delay = retry_after + mean * waits.rng.uniform(0.5, 1.5)
        last = self._deadline.left() - self._reserved
        if last <= retry_after:
            raise self._deadline_exceeded()
        return min(delay, last)

    def _deadline_exceeded(self, attempts: Sequence[Attempt] = ()) -> DeadlineExceededError:
        found = self._trouble
        if self.latest is not None:
            state = self.latest.processing_state
            named = f"{state}" if isinstance(state, ProcessingState) else "of no known kind"
            found = f"its processing_state was {named} when Twilio last described it"
        message = (
            f"The summary was not finished within {self._deadline.seconds:g} s: {found}. "
            "Wait again to go on; 30 minutes after the end of a conference are normal."
        )
        return DeadlineExceededError(message, conference_sid=self._sid, attempts=attempts)


def _retry_after(error: InsightsError) -> float:
    return (error.retry_after or 0.0) if isinstance(error, APIStatusError) else 0.0
