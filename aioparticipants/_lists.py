"""`ListFactory`: opens the lists that one call of a session asks for, one or thousands."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from ._call import ListContext
from ._cursors import CursorCodec, Position
from ._paging import Pager
from ._prefetching import PagesAhead
from ._resources import LARGEST_PAGE
from ._sliced_pages import SlicedPages
from ._slices import LONGEST_STATE, Place, Slices
from ._sources import checked_item
from ._stream import RecordStream
from ._telemetry import ListTelemetry
from .errors import InsightsError, InvalidRequestError, ResponseError
from .instrumentation import ConferenceFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._call import SessionContext
    from ._messages import Request
    from ._opentelemetry import Tracer
    from ._prefetching import PageSource
    from ._resources import Resource, Window
    from ._retrying import Deadline
    from ._tasks import SessionTasks
    from ._telemetry import SessionTelemetry

__all__ = ["ListFactory"]

#: The remedies for a list of pages, and those for a single record.
_REWORDED: Final = (
    (
        "before the next page was there; the error's cursor says where to go on, with more time.",
        "before the record was there; give the call more time.",
    ),
    ("give the cursor to another one.", "make another one."),
    ("Set a smaller page_size, which is answered sooner, or a longer", "Set a longer"),
    ("Set a smaller page_size.", "Check base_url, and any proxy or gateway in between."),
    ("took too long: set a smaller page_size, which is faster.", "took too long."),
)

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class ListFactory(Generic[T]):
    """Opens lists of one resource with the same filters. Nothing is sent before a list is read."""

    session: SessionContext
    tasks: SessionTasks
    telemetry: SessionTelemetry
    tracer: Tracer | None
    resource: Resource[T]
    filters: Mapping[str, object] = attrs.field(repr=False)  # they can be personal data
    page_size: int | None
    deadline: Deadline
    keep_invalid: bool

    def first_request(self, sids: Mapping[str, object], *, limit: int | None = None) -> Request:
        """Return the request for the first page of a list.

        Args:
            sids: the parameters of the path, by the names of their arguments.
            limit: records in all; None for all.

        Raises:
            InvalidRequestError: the API cannot accept a SID, a filter or the page size.
        """
        return self.resource.first_request(
            sids, self.filters, page_size=self.page_size, limit=limit
        )

    def open(
        self, sids: Mapping[str, object], *, limit: int | None = None, resume: str | None = None
    ) -> tuple[RecordStream[T], PagesAhead]:
        """Return a list, and its pages.

        Raises:
            InvalidRequestError: as above, or `resume` is not a cursor of this list.
        """
        first = self.first_request(sids, limit=limit)
        codec = CursorCodec(first, self.resource.cursor_scope)
        start = Position(first)
        if resume is not None:
            start = codec.decode(resume, page_size=self.page_size)
        telemetry = self._list_telemetry(first)
        calls = self._calls(first, start.request, is_resumed=resume is not None)
        pages = PagesAhead(
            start.request,
            calls=calls,
            tasks=self.tasks,
            telemetry=telemetry,
            enough=self._enough_pages(limit),
        )
        return self._stream(start, pages, codec, limit, telemetry), pages

    def open_in_slices(
        self,
        sids: Mapping[str, object],
        window: Window,
        number: int,
        *,
        limit: int | None,
        resume: str | None,
    ) -> RecordStream[T]:
        """Return a list whose window is cut into a number of slices.

        Raises:
            InvalidRequestError: as above.
        """
        first = self.first_request(sids, limit=limit)
        codec = CursorCodec(first, self.resource.cursor_scope, longest_state=LONGEST_STATE)
        if resume is None:
            place = Place(0)
            slices = Slices.of(first, window, number, datetime.now(UTC))
            start = Position(slices.start(place))
        else:
            start = codec.decode(resume, page_size=self.page_size)
            slices, place = Slices.resumed(first, window, number, start.request)
        telemetry = self._list_telemetry(first)

        def open_slice(
            its_first: Request, from_page: Request, on_fetched: Callable[[], object]
        ) -> PagesAhead:
            is_resumed = resume is not None and from_page is start.request
            return PagesAhead(
                from_page,
                calls=self._calls(its_first, from_page, is_resumed=is_resumed),
                tasks=self.tasks,
                telemetry=telemetry,
                on_fetched=on_fetched,
            )

        pages = SlicedPages(
            slices,
            start.request,
            place,
            open_slice=open_slice,
            resource=self.resource,
            limit=limit,
            telemetry=telemetry,
        )
        return self._stream(start, pages, codec, limit, telemetry)

    def _list_telemetry(self, first: Request) -> ListTelemetry:
        return ListTelemetry(
            self.telemetry.emit,
            self.resource,
            first.conference_sid,
            clock=time.monotonic,
            tracer=self.tracer,
        )

    def _calls(self, first: Request, start: Request, *, is_resumed: bool) -> ListContext:
        """Return what the calls share that fetch the pages from `start` on."""
        return ListContext(
            session=self.session,
            pager=Pager(first, start, resource=self.resource),
            resource=self.resource,
            deadline=self.deadline,
            resumed=start if is_resumed else None,
        )

    def _stream(
        self,
        start: Position,
        pages: PageSource,
        codec: CursorCodec,
        limit: int | None,
        telemetry: ListTelemetry,
    ) -> RecordStream[T]:
        return RecordStream(
            start,
            pages=pages,
            resource=self.resource,
            cursor=codec.encode,
            limit=limit,
            keep_invalid=self.keep_invalid,
            telemetry=telemetry,
        )

    def _enough_pages(self, limit: int | None) -> int:
        """Return how many whole pages hold that many records."""
        if limit is None:
            return sys.maxsize
        return -(-limit // (self.page_size or LARGEST_PAGE))  # rounded up

    async def record(self, sids: Mapping[str, object]) -> T:
        """Return a single record, of a resource that is one.

        Raises:
            InsightsError: what `RecordStream` raises.
        """
        stream, _ = self.open(sids)
        try:
            [record] = await stream.all()
        except InsightsError as error:
            error.cursor = None  # a single record is not resumed
            if isinstance(error, ResponseError):
                error.cursor_after = None
            text = str(error)
            for of_list, of_record in _REWORDED:
                text = text.replace(of_list, of_record)
            error.args = (text,)
            raise
        return record

    def open_in_fan_out(
        self, conference_sid: object, *, limit: int | None = None
    ) -> tuple[RecordStream[T], PagesAhead]:
        """Do as `open`; if the SID is refused, emit an event, as each conference counts."""
        try:
            return self.open({"conference_sid": checked_item(conference_sid)}, limit=limit)
        except InvalidRequestError as error:
            self.report_unread(error, conference_sid=None)
            raise

    def report_unread(
        self, error: InsightsError, *, conference_sid: str | None, seconds: float = 0.0
    ) -> None:
        """Emit that a conference of a fan-out failed before its list was read."""
        self.telemetry.emit(
            ConferenceFinished(
                conference_sid=conference_sid,
                pages=0,
                records=0,
                seconds=seconds,
                error=type(error).__name__,
            )
        )
