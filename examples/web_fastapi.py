"""Answer who was in a conference: `python web_fastapi.py`, then GET /conferences/CF…."""

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from aioparticipants import (
    DeadlineExceededError,
    InsightsError,
    InsightsSession,
    InvalidRequestError,
    NotFoundError,
    Participant,
)

DEADLINE = 5.0  # seconds for the whole answer
router = APIRouter()


@router.get("/conferences/{sid}")
async def conference(sid: str, request: Request) -> list[Participant]:  # /docs shows all members
    session: InsightsSession = request.state.twilio
    # FastAPI does not cancel the handler of a client that disconnects; the deadline ends it then.
    return await session.participants(sid, deadline=DEADLINE)


async def refusal(_request: Request, error: InsightsError) -> JSONResponse:
    # The text names no credential, number or label; Twilio's support asks for the request_id.
    body = {"error": str(error), "request_id": error.request_id}
    status, headers = answer_to(error)
    return JSONResponse(body, status_code=status, headers=headers)


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
