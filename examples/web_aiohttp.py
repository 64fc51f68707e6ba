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
    Participant,
)

SESSION = web.AppKey("session", InsightsSession)
DEADLINE = 5.0  # seconds for an answer, whatever Twilio does


async def conference(request: web.Request) -> web.Response:
    session, sid = request.app[SESSION], request.match_info["sid"]
    try:
        everyone = await session.participants(sid, deadline=DEADLINE)
    except InsightsError as error:
        return refusal(error)
    return web.json_response([summary(each) for each in everyone])


def summary(participant: Participant) -> dict[str, object]:
    metrics = participant.metrics
    return {
        "participant_sid": participant.participant_sid,
        "region": participant.participant_region,
        "mos": metrics.inbound.mos if metrics and metrics.inbound else None,
    }


def refusal(error: InsightsError) -> web.Response:
    headers = {}
    match error:
        case InvalidRequestError():
            status = 400
        case NotFoundError():
            status = 404
        case DeadlineExceededError():
            status = 504
        case _ if error.transient:  # Twilio is busy, or out of reach, after all of the retries
            status = 503
            headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after", None) or 5))
        case _:
            status = 502
    # An error's text names no credential, number or label; its request_id is for Twilio's support.
    body = {"error": str(error), "request_id": error.request_id}
    return web.json_response(body, status=status, headers=headers)


def make_app(open_session: Callable[[], InsightsSession]) -> web.Application:
    async def twilio(app: web.Application) -> AsyncIterator[None]:
        async with open_session() as app[SESSION]:  # one for all requests: they share its limit
            yield

    app = web.Application()
    app.cleanup_ctx.append(twilio)
    app.router.add_get("/conferences/{sid}", conference)
    return app


if __name__ == "__main__":
    # A client that leaves ends its handler, and that the requests to Twilio.
    web.run_app(
        make_app(InsightsSession.from_env),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,
    )
