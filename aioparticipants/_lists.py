"""`ListFactory`: opens the lists that one call of a session asks for, one or thousands."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from ._call import ListContext
from ._cursors import CursorCodec, Position
from ._paging import Pager
from ._prefetching import PagesAhead
from ._resources import LARGEST_PAGE
from ._sources import checked_item
from ._stream import RecordStream
from ._telemetry import ListTelemetry
from .errors import InsightsError, InvalidRequestError, ResponseError
from .instrumentation import ConferenceFinished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._call import SessionContext
    from ._messages import Request
    from ._opentelemetry import Tracer
    from ._resources import Resource
    from ._retrying import Deadline
    from ._tasks import SessionTasks
    from ._telemetry import SessionTelemetry

__all__ = ["ListFactory"]

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
        telemetry = ListTelemetry(
            self.telemetry.emit,
            self.resource,
            first.conference_sid,
            clock=time.monotonic,
            tracer=self.tracer,
        )
        calls = ListContext(
            session=self.session,
            pager=Pager(first, start.request, resource=self.resource),
            resource=self.resource,
            deadline=self.deadline,
            resumed=None if resume is None else start.request,
        )
        pages = PagesAhead(
            start.request,
            calls=calls,
            tasks=self.tasks,
            telemetry=telemetry,
            enough=self._enough_pages(limit),
        )
        stream = RecordStream(
            start,
            pages=pages,
            resource=self.resource,
            cursor=codec.encode,
            limit=limit,
            keep_invalid=self.keep_invalid,
            telemetry=telemetry,
        )
        return stream, pages

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
