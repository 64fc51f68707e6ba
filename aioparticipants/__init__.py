"""Read the participants of Twilio conferences, with their call quality, in asyncio code.

    async with InsightsSession.from_env() as session:
        async for participant in session.participants("CF0123456789abcdef0123456789abcdef"):
            print(participant.label, participant.duration_seconds)

`InsightsSession` is the place to start. Records are in `models`, exceptions in `errors`, events and
statistics in `instrumentation`, and a test server in `aioparticipants.testing`. What Twilio's Event
Streams push is decoded by `aioparticipants.event_streams`.
"""

from . import errors, instrumentation, models
from ._credentials import ClientCredentials, Credentials, CredentialsProvider
from ._fan_out import ConferenceResult, FanOut, MergedParticipants
from ._limiter_protocols import AcquireReleaseLimiter, ContextLimiter, SharedLimiter
from ._retrying import RetryPolicy
from ._rows import Column, Row
from ._session import InsightsSession, SessionOptions
from ._stream import RecordStream
from ._version import __version__
from .errors import (
    APIStatusError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    CursorExpiredError,
    DeadlineExceededError,
    InsightsError,
    InvalidRequestError,
    NotFoundError,
    PaginationError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    SessionClosedError,
    TransportError,
)
from .instrumentation import SessionStats
from .models import (
    AvgMax,
    CallDirection,
    CallStatus,
    CallType,
    Conference,
    ConferenceEndReason,
    ConferenceStatus,
    ConferenceTag,
    JitterBufferSize,
    MediaMetrics,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
    ProcessingState,
    RecordProblem,
    Region,
)

__all__ = [
    "APIStatusError",
    "AcquireReleaseLimiter",
    "Attempt",
    "AuthenticationError",
    "AvgMax",
    "BadRequestError",
    "CallDirection",
    "CallStatus",
    "CallType",
    "ClientCredentials",
    "Column",
    "Conference",
    "ConferenceEndReason",
    "ConferenceResult",
    "ConferenceStatus",
    "ConferenceTag",
    "ContextLimiter",
    "Credentials",
    "CredentialsProvider",
    "CursorExpiredError",
    "DeadlineExceededError",
    "FanOut",
    "InsightsError",
    "InsightsSession",
    "InvalidRequestError",
    "JitterBufferSize",
    "MediaMetrics",
    "MergedParticipants",
    "NotFoundError",
    "Page",
    "PageMeta",
    "PaginationError",
    "Participant",
    "ParticipantMetrics",
    "ParticipantProperties",
    "PermissionDeniedError",
    "ProcessingState",
    "RateLimitError",
    "RecordProblem",
    "RecordStream",
    "Region",
    "RequestTimeoutError",
    "ResponseError",
    "RetryPolicy",
    "Row",
    "ServerError",
    "SessionClosedError",
    "SessionOptions",
    "SessionStats",
    "SharedLimiter",
    "TransportError",
    "__version__",
    "errors",
    "instrumentation",
    "models",
]
