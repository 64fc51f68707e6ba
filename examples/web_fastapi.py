"""Answer who was in a conference: `python web_fastapi.py`, then GET /conferences/CF…."""

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from aioparticipants import (
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
)

DEADLINE = 5.0  # seconds for an answer, whatever Twilio does
router = APIRouter()


async def twilio(request: Request) -> InsightsSession:
    session: InsightsSession = request.state.twilio
    return session


@router.get("/conferences/{sid}")
async def conference(
    sid: str, session: Annotated[InsightsSession, Depends(twilio)]
) -> list[dict[str, str | float | None]]:
    # FastAPI lets a handler run on when its client has left: the deadline is its end then, too.
    return [
        {
            "participant_sid": each.participant_sid,
            "region": each.participant_region,
            "mos": each.metrics.inbound.mos if each.metrics and each.metrics.inbound else None,
        }
        for each in await session.participants(sid, deadline=DEADLINE)
    ]


async def refusal(_request: Request, error: InsightsError) -> JSONResponse:
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
    return JSONResponse(body, status_code=status, headers=headers)


def make_app(open_session: Callable[[], InsightsSession]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, InsightsSession]]:
        async with open_session() as session:  # one for all requests: they share its limit
            yield {"twilio": session}

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.exception_handler(InsightsError)(refusal)
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(InsightsSession.from_env), port=int(os.environ.get("PORT", "8000")))
