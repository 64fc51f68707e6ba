"""Answer who was in a conference: `python web_aiohttp.py`, then GET /conferences/CF…."""

import math
import os
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from aioparticipants import (
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
)

SESSION = web.AppKey("session", InsightsSession)
DEADLINE = 5.0  # seconds for the whole answer


async def conference(request: web.Request) -> web.Response:
    session, sid = request.app[SESSION], request.match_info["sid"]
    try:
        participants = await session.participants(sid, deadline=DEADLINE)
    except InsightsError as error:
        # The text names no credential, number or label; Twilio's support asks for the request_id.
        body = {"error": str(error), "request_id": error.request_id}
        status, headers = answer_to(error)
        return web.json_response(body, status=status, headers=headers)
    return web.json_response([each.to_dict() for each in participants])


def answer_to(error: InsightsError) -> tuple[int, dict[str, str]]:
    """Return the status and headers for a failure."""
    match error:
        case InvalidRequestError():
            return 400, {}
        case NotFoundError():
            return 404, {}
        case DeadlineExceededError():
            return 504, {}
        case _ if error.transient:  # Twilio is busy or unreachable, and the retries failed, too
            seconds = getattr(error, "retry_after", None) or 5
            return 503, {"Retry-After": str(math.ceil(seconds))}
    return 502, {}


def make_app(open_session: Callable[[], InsightsSession]) -> web.Application:
    async def twilio(app: web.Application) -> AsyncIterator[None]:
        async with open_session() as app[SESSION]:  # one for all requests: they share its limit
            yield

    app = web.Application()
    app.cleanup_ctx.append(twilio)
    app.router.add_get("/conferences/{sid}", conference)
    return app


if __name__ == "__main__":
    # A client that disconnects cancels its handler, and so the requests to Twilio.
    web.run_app(
        make_app(InsightsSession.from_env),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,
    )
