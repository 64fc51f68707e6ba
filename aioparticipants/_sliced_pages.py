"""`SlicedPages`: the pages of a list in slices, fetched side by side. Knows asyncio, and no HTTP.

1. Each slice is a list of its own (`PagesAhead`). The slices are begun from the newest on, and
   their pages are delivered slice after slice. `_slices` says which records of a page these are.
2. At most 32 pages are held at once: fetched and not taken, or being fetched. A page that is free
   goes to the newest slice that can use it. The slice that is delivered may always fetch one.
3. With a limit, as many pages are fetched ahead as it probably needs: if pages are full, or as full
   as those so far. The rest is cancelled once the limit is reached.
4. An error of a slice is delivered after all pages before it. No slice after it is begun meanwhile.
5. All slices together are one list to the telemetry, with one deadline.
6. Filtering a page is done in steps, and a cancelled consumer goes on with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from ._call import run_cooperatively
from ._paging import End, Failed, RawPage
from ._slices import Place, page_of_slice
from ._tasks import wait_ignoring_cancellation
from ._tracebacks import stripped
from .errors import PaginationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._messages import Request
    from ._prefetching import PagesAhead
    from ._resources import Resource
    from ._slices import SlicePage, Slices
    from ._telemetry import ListTelemetry

__all__ = ["SlicedPages"]

_OpenSlice: TypeAlias = "Callable[[Request, Request, Callable[[], object]], PagesAhead]"

#: The most pages that are held: a page of 1000 conferences has about a megabyte.
_MOST_PAGES: Final = 32


class SlicedPages:
    """The pages of a list in slices that were not taken yet, for one consumer."""

    def __init__(
        self,
        slices: Slices,
        start: Request,
        place: Place,
        *,
        open_slice: _OpenSlice,
        resource: Resource[object],
        limit: int | None,
        telemetry: ListTelemetry,
    ) -> None:
        """Begin at a place. Nothing is sent yet.

        Args:
            slices: the slices.
            start: the request for the first page.
            place: the slice of that page, and what was delivered before it.
            open_slice: returns the pages of a slice, from the request for its first page, that for
                the page to start with, and a function to be called when a page has come.
            resource: the kind of the list.
            limit: records in all; None for all.
            telemetry: that of the list.
        """
        self._slices = slices
        self._start = start
        self._place = place
        self._open_slice = open_slice
        self._resource = resource
        self._limit = limit
        self._telemetry = telemetry
        # The page tasks of each slice run in a copy of the context of this constructor.
        self._context = contextvars.copy_context()
        self._begun: deque[PagesAhead] = deque()  # the first is delivered next
        self._first_index = self._next_to_begin = place.index
        self._steps: Generator[None, None, SlicePage] | None = None
        self._page: SlicePage | None = None
        self._taken_pages = self._taken_records = 0
        self._stopped = False
        fetch = weakref.WeakMethod(self._fetch)  # else this and the pages would refer to each other

        def on_fetched() -> None:
            if (fetch_more := fetch()) is not None:
                fetch_more()

        self._on_fetched = on_fetched

    def check_loop(self) -> None:
        """Raise InvalidRequestError if pages are being fetched on another event loop."""
        for each in self._begun:
            each.check_loop()

    async def next(self) -> RawPage | Failed | End:
        """Return the next page, without taking it; or why there is none.

        A cancelled wait loses nothing. Once this is closed, there is none.
        """
        if self._stopped:
            return End()
        if self._page is None:
            try:
                self._place.check()
            except PaginationError as error:
                return Failed(stripped(error))
            self._fetch()
            if not self._begun:
                return End()
            page = await self._begun[0].next()
            if not isinstance(page, RawPage):
                return page
            if self._steps is None:
                self._steps = page_of_slice(page, self._slices, self._place, self._resource)
            self._page = await run_cooperatively(self._steps)
        return self._page.page

    def take(self, *, last: bool) -> None:
        """Remove the next page; with `last`, no further page is wanted."""
        taken = cast("SlicePage", self._page)
        self._page = self._steps = None
        self._begun[0].take(last=last)
        self._place = taken.after
        self._taken_pages += 1
        self._taken_records += taken.page.records.known
        if last:  # what was fetched in vain is let go of
            self._stopped = True
            for each in self._begun:
                each.close()
        elif taken.ends_slice:
            self._begun.popleft()

    async def look_ahead(self) -> None:
        """Start to fetch what follows, and give the next request the time to be sent."""
        if self._stopped:
            return
        if not self._begun:
            self._begin()
        if self._begun:
            await self._begun[0].look_ahead()
            self._fetch()
            await asyncio.sleep(0)  # long enough for a kept connection

    def abandon(self) -> None:
        """Cancel all page tasks, as nobody will take their pages; callable in any thread.

        In another thread than the loop's, a task may be missed that is being started right now. It
        fetches its page, and is the last one.
        """
        self._telemetry.abandoned()
        self._stopped = True
        for each in [*self._begun]:  # a copy, as the loop's thread may change it
            each.cancel()

    async def aclose(self) -> None:
        """Close it; when this returns, all page tasks have ended, and their sockets are closed.

        A page task that calls this itself, in a hook of the user's, goes on, and is not awaited.
        """
        self._telemetry.abandoned()
        self._stopped = True
        self._page = self._steps = None
        tasks = [task for each in self._begun if (task := each.close()) is not None]
        if tasks:
            await wait_ignoring_cancellation(tasks)

    def _fetch(self) -> None:
        """Start to fetch as many pages as may be held, those that are delivered first, first."""
        held, most = sum(each.held for each in self._begun), self._most_pages()
        for each in [*self._begun]:
            if self._stopped or held >= most:
                return
            held += each.fetch()
            if each.has_failed:  # nothing after it will be delivered
                return
        while not self._stopped and held < most and self._begin():
            if not self._begun[-1].fetch():  # the session is closed
                return
            held += 1

    def _begin(self) -> bool:
        """Open the next slice; return whether there was one."""
        index = self._next_to_begin
        if index > self._slices.last:
            return False
        first = self._slices.start(Place(index))
        start = self._start if index == self._first_index else first
        self._telemetry.started(self._context)
        # The pages copy the context in which they are opened: one where the list's span is current.
        self._begun.append(self._context.run(self._open_slice, first, start, self._on_fetched))
        self._next_to_begin += 1
        return True

    def _most_pages(self) -> int:
        """Return how many pages to hold at most; with a limit, how many it probably needs."""
        if self._limit is None:
            return _MOST_PAGES
        left = self._limit - self._taken_records
        per_page: float = self._slices.page_size
        if self._taken_pages:
            per_page = self._taken_records / self._taken_pages
        return min(_MOST_PAGES, max(1, math.ceil(left / per_page))) if per_page else _MOST_PAGES
