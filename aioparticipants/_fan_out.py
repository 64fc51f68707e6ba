"""`FanOut`: many conferences at once, each isolated from the others. Uses asyncio, and no HTTP.

1. A conference that fails is a result with an error, and the records before it; the others go on.
   With `on_error="raise"` it ends all: what is complete is delivered, and then the error is raised.
2. The end comes only when the source has ended and every conference of it was delivered. Any other
   ending is an error, raised again by each further call until `aclose()`. A fan-out that is used up
   or closed cannot be begun anew, nor can one that was closed before its end go on: that is an
   InvalidRequestError, as with a `RecordStream`.
3. How many are read at once, and what of them is in memory, is up to the `Scheduler`. What is
   delivered is up to a `Delivery`: a result for each conference (`Results`), or the pages of all
   (`MergedPages`). The first use of the fan-out decides which.
4. The next page of a conference is not added to `MergedPages` before its latest one was delivered.
   So a huge conference does not fill the memory.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Sized
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from ._codecs import codecs
from ._field_docs import documented
from ._record_methods import RecordMethods
from ._result_codec import ResultCodec
from ._scheduler import Delivery, Scheduler, two_at_once
from ._sources import async_items
from ._tasks import ClosedAtEnd, running_loop, wait_ignoring_cancellation
from ._waiting import is_final
from .errors import InsightsError, InvalidRequestError, ResponseError, copied
from .models import Conference, Participant

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from ._codecs import OnInvalid
    from ._retrying import Deadline
    from ._rows import Row
    from ._scheduler import ConferenceJob, OnError, OpenList
    from ._sources import Source
    from ._tasks import SessionTasks
    from ._waiting import NewWait
    from .models import Page, RecordProblem

__all__ = ["ConferenceResult", "FanOut", "MergedParticipants"]


@documented
@attrs.frozen(kw_only=True)
class ConferenceResult(RecordMethods):
    """The result of one conference of a fan-out."""

    conference_sid: str
    """As it was given, even if it is not a SID; empty if a `Conference` without one was given."""
    participants: tuple[Participant, ...] = ()
    """In the server's order; after a failure those before it."""
    error: InsightsError | None = None
    """Why the list is not complete; None if it is. Its `cursor` says where to continue."""
    problems: tuple[RecordProblem, ...] = ()
    """With `on_invalid="keep"`: the records that could not be read at all."""
    pages: int = 0
    """The number of pages that were read."""
    seconds: float = 0.0
    """How long it took, with the wait for its summary (`wait`), but without the time that its
    pages waited to be decoded."""
    conference: Conference | None = None
    """The conference itself: the one that the source gave, or, with `wait`, the one that Twilio
    last answered with; None if there is neither."""
    context: Any = attrs.field(default=None, eq=False, repr=False)
    """What the source gave with it, in a pair `(sid, context)`; None if nothing. It is never
    compared, hashed or shown."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be expected: complete, with records, each of them final.

        A summary can take 30 minutes to be complete, and until then a list can be empty or short,
        its records `in_progress`. `timeout` is final, too: Twilio gave up after 24 hours.
        https://www.twilio.com/docs/voice/voice-insights/api/conference/participant-summary-resource
        """
        return (
            self.error is None and bool(self.participants) and all(map(is_final, self.participants))
        )

    def to_rows(self) -> list[Row]:
        """Return a flat row for each participant; see `Participant.to_row`.

        After a failure they are those before it: look at `error`, and at `problems`.
        """
        return [each.to_row() for each in self.participants]

    def to_dict(self) -> dict[str, object]:
        """Return the result as a JSON object of plain dicts, lists, strings and numbers.

            {"conference_sid": "CF…", "participants": [{…}, …], "error": None, "problems": [],
             "pages": 1, "seconds": 0.2, "conference": None}

        `participants` are as `Participant.to_dict()` gives them. `error` is None, or an object of
        always the same members, null where the error has no such attribute: `type` (the name of its
        class), `message` (its `str`), `transient`, `status`, `code`, `retry_after`, `request_id`,
        `cursor`, `path`, `cursor_after`. It has no secret in it, nor any text of Twilio's.
        `problems` are objects of `conference_sid`, `index`, `cursor` and `fault`. `conference` is
        as `Conference.to_dict()` gives it, or null. The `context` is left out.

        Raises:
            InvalidRequestError: a record was made by hand, with a value that JSON cannot hold.
        """
        return super().to_dict()

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object], *, on_invalid: OnInvalid = "raise") -> Self:
        """Return the result for a mapping as `to_dict()` gives it; unknown members are ignored.

        An error comes back with its class, text and the attributes above, without its `attempts`.
        The `context` is None. Two errors are never equal, so a result with an error does not equal
        the one it came from.

        Args:
            mapping: the JSON object.
            on_invalid: what to do with a value of the wrong type in a record, as for a record.

        Raises:
            InvalidRequestError: a value is of the wrong type; the message has its path, such as
                `participants[3].duration_seconds`, and never the value.
        """
        return super().from_dict(mapping, on_invalid=on_invalid)


codecs[ConferenceResult] = ResultCodec(ConferenceResult)


def _result_of(conference: ConferenceJob, error: InsightsError | None) -> ConferenceResult:
    return ConferenceResult(
        conference_sid=conference.wanted.sid,
        participants=tuple(conference.records),
        error=error,
        problems=conference.problems,
        pages=conference.pages,
        seconds=conference.seconds,
        conference=conference.record,
        context=conference.wanted.context,
    )


class Results(Delivery[ConferenceResult]):
    """Delivers one result for each conference."""

    # All that most conferences have, and few enough to be fetched in vain if the first is bad.
    PAGES_AHEAD: ClassVar[int] = 4

    async def on_page(self, conference: ConferenceJob, page: Page[Participant]) -> None:
        """Keep its records."""
        conference.records += page.records

    def on_conference_done(self, conference: ConferenceJob, error: InsightsError | None) -> None:
        """Add its result."""
        self._add(_result_of(conference, error), conference)

    def on_delivered(self, conference: ConferenceJob) -> None:
        """Let another conference have its place."""
        conference.release()

    def error_to_raise(self, error: InsightsError) -> InsightsError:
        """Return the error without a cursor, as no record of the conference is delivered."""
        error = copied(error)
        error.cursor = None
        if isinstance(error, ResponseError):
            error.cursor_after = None
        return error


class MergedPages(Delivery[tuple[Participant, ...]]):
    """Delivers the records of all conferences, page by page.

    Attributes:
        failures: the conferences that failed, without records.
        problems: the records that could not be read, of the conferences that are over.
        rest: the records of the latest page that were not delivered yet.
    """

    PAGES_AHEAD: ClassVar[int] = 1

    def __init__(self) -> None:
        """Begin with nothing to deliver."""
        super().__init__()
        self.failures: list[ConferenceResult] = []
        self.problems: list[RecordProblem] = []
        self.rest: Iterator[Participant] = iter(())

    async def on_page(self, conference: ConferenceJob, page: Page[Participant]) -> None:
        """Add its records, and wait until they are delivered."""
        conference.page_delivered.clear()
        self._add(page.records, conference)
        await conference.page_delivered.wait()
        conference.slot.release()

    def on_conference_done(self, conference: ConferenceJob, error: InsightsError | None) -> None:
        """Note what went wrong, and let another conference have its place."""
        self.problems += conference.problems
        if error is not None:
            self.failures.append(_result_of(conference, error))
        conference.release()

    def on_delivered(self, conference: ConferenceJob) -> None:
        """Let the conference go on with its next page."""
        conference.page_delivered.set()

    def error_to_raise(self, error: InsightsError) -> InsightsError:
        """Return the error: its cursor names the record after those that are delivered."""
        return error

    def clear(self) -> None:
        """Forget what was not delivered, the rest of a page as well."""
        super().clear()
        self.rest = iter(())


def _close(scheduler: weakref.ref[Scheduler]) -> None:
    """Close a scheduler, unless it is gone, too."""
    if (alive := scheduler()) is not None:
        alive.close()


class FanOut(ClosedAtEnd, AsyncIterator[ConferenceResult]):
    """Many conferences at once: a `ConferenceResult` for each, as it completes.

    Iterate it (`async for`), best opened (`async with`, after which no task of it is alive); await
    it or its `all()`, for a list of all results; or iterate `participants()` instead, the records
    of all. Nothing is requested, and no SID taken, before the first one is asked for. A
    `RecordStream` that is given as the source belongs to it: it is closed at the end, whatever the
    end is. Its cursor then names the next conference that was not taken.

    Attributes:
        total: the number of conferences, if it is known: at once for a list or set, and for any
            other source at its end.

    Raises, while iterating:
        InsightsError: with `on_error="raise"`, the error of the first conference that failed.
        SessionClosedError: the session was closed meanwhile.
        InvalidRequestError: two tasks asked at once (it stays usable), or another loop did; it was
            closed, by whomever; or it is used up and was to begin anew.
        Exception: whatever the source raised, after the conferences before it. If that is an error
            of `session.conferences(…)`, its cursor says where to continue.
    """

    def __init__(
        self,
        source: Source,
        open_list: OpenList,
        *,
        new_wait: NewWait | None = None,
        concurrency: int,
        on_error: OnError,
        tasks: SessionTasks,
        deadline: Deadline,
    ) -> None:
        """Made by `InsightsSession`, not by hand; `deadline` starts when the first is asked for."""
        self._scheduler = Scheduler(
            async_items(source),
            open_list,
            Results(),
            new_wait=new_wait,
            concurrency=concurrency,
            on_error=on_error,
            tasks=tasks,
            deadline=deadline,
        )
        self._length = len(source) if isinstance(source, Sized) else None
        # By a weak reference, as the frames of an exception that is kept there can refer to this.
        weakref.finalize(self, _close, weakref.ref(self._scheduler)).atexit = False

    def __repr__(self) -> str:
        """Show how far it is."""
        total = "?" if self.total is None else self.total
        state = f"{self.done} of {total} done, {self.failed} failed, {self.in_flight} in flight"
        if waiting := self.waiting:
            state += f", {waiting} of these waiting"
        return f"<FanOut: {state}>"

    @property
    def done(self) -> int:
        """Return the number of conferences that are over, the failed ones included.

        Those that were given up when the fan-out or its session was closed do not count.
        """
        return self._scheduler.done

    @property
    def failed(self) -> int:
        """Return the number of conferences that failed."""
        return self._scheduler.failed

    @property
    def in_flight(self) -> int:
        """Return the number of conferences that are being read.

        They include those that wait to be decoded, until those before them are delivered; and, with
        `wait`, those whose summaries are waited for.
        """
        return self._scheduler.in_flight

    @property
    def waiting(self) -> int:
        """Return the number of conferences in flight whose summaries are waited for (`wait`)."""
        return self._scheduler.waiting

    @property
    def total(self) -> int | None:
        """Return the number of conferences; None while that is not known."""
        return self._scheduler.begun if self._scheduler.is_drained else self._length

    @property
    def failures(self) -> tuple[ConferenceResult, ...]:
        """Return the conferences of `participants()` that failed up to now, without records.

        Those of a plain iteration are delivered, and not kept.
        """
        delivery = self._scheduler.delivery
        return (*delivery.failures,) if isinstance(delivery, MergedPages) else ()

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """Return, for `participants()` with `on_invalid="keep"`, the records that were unreadable.

        They are those of the conferences that are over. A plain iteration has them in its results.
        """
        delivery = self._scheduler.delivery
        return (*delivery.problems,) if isinstance(delivery, MergedPages) else ()

    def participants(self) -> MergedParticipants:
        """Return the records of all conferences as one stream, instead of a result for each.

        A conference's records keep their order; pages of different ones alternate as they come.
        The conferences that fail are in `failures`; with `on_error="raise"`, the first one ends it
        with an error. Called again, it continues where it is.

        Raises:
            InvalidRequestError: the results are being iterated already; it is used up, or closed.
        """
        scheduler = self._scheduler
        scheduler.check_unused()
        if not isinstance(scheduler.delivery, MergedPages):
            if scheduler.loop is not None:
                message = "The results are being iterated: take their participants."
                raise InvalidRequestError(message)
            scheduler.delivery = MergedPages()
        return MergedParticipants(self, scheduler, scheduler.delivery)

    def __await__(self) -> Generator[object, None, list[ConferenceResult]]:
        """Do as `all()`."""
        return self.all().__await__()

    async def all(self) -> list[ConferenceResult]:
        """Return the results that were not delivered yet, as a list, and close the fan-out.

        It is all of them or none: after an error, or a cancellation, it is closed without them. A
        coroutine, so that `asyncio.run` and `TaskGroup.create_task` take it.
        """
        self._scheduler.check_unused()
        self._results()
        if self._scheduler.is_awaited:  # before it is closed under the other task
            raise two_at_once()
        async with self:
            return [result async for result in self]

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        self._scheduler.check_unused()
        return self

    async def __anext__(self) -> ConferenceResult:
        """Return the next result; raise what the class promises."""
        results = self._results()
        await self._scheduler.wait_until_ready()
        return results.take()

    def _results(self) -> Results:
        """Return the delivery of the results.

        Raises:
            InvalidRequestError: the records are merged.
        """
        delivery: Delivery[Any] = self._scheduler.delivery
        if not isinstance(delivery, Results):
            message = "The records are being merged: iterate participants()."
            raise InvalidRequestError(message)
        return delivery

    async def aclose(self) -> None:
        """End it; when it returns, no task or socket of it is alive. Closing twice does nothing.

        Conferences that are not delivered are given up. Whoever waits for a result meanwhile, or
        asks for one later, gets an InvalidRequestError. A source that closes it is not waited for.
        A `RecordStream` that is its source is closed, too.
        """
        scheduler = self._scheduler
        scheduler.close()
        if scheduler.loop is None:  # else the task that reads the source closes it
            await scheduler.close_source()
        # Tasks of another loop cannot be waited for; without a running loop nothing can be.
        if scheduler.loop is not None and scheduler.loop is running_loop():
            await wait_ignoring_cancellation(scheduler.unfinished())

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        self._scheduler.check_unused()
        return self


class MergedParticipants(ClosedAtEnd, AsyncIterator[Participant]):
    """The records of all conferences of a `FanOut`, as one stream; closing it closes that.

    Raises, while iterating, what `FanOut` does.
    """

    def __init__(self, fan_out: FanOut, scheduler: Scheduler, merged: MergedPages) -> None:
        """Made by `FanOut.participants()`, not by hand."""
        self._fan_out = fan_out
        self._scheduler = scheduler
        self._merged = merged

    @property
    def failures(self) -> tuple[ConferenceResult, ...]:
        """Return the conferences that failed up to now, as `FanOut.failures` does."""
        return self._fan_out.failures

    @property
    def problems(self) -> tuple[RecordProblem, ...]:
        """Return the records that could not be read, as `FanOut.problems` does."""
        return self._fan_out.problems

    def __aiter__(self) -> Self:
        """Return itself: it is iterated once."""
        self._scheduler.check_unused()
        return self

    async def __anext__(self) -> Participant:
        """Return the next record; raise what `FanOut` promises."""
        merged = self._merged
        while (record := next(merged.rest, None)) is None:
            await self._scheduler.wait_until_ready()
            merged.rest = iter(merged.take())
        return record

    async def aclose(self) -> None:
        """End the fan-out, and this with it."""
        await self._fan_out.aclose()

    async def __aenter__(self) -> Self:
        """Return itself; `aclose()` follows at the end of the block."""
        self._scheduler.check_unused()
        return self
