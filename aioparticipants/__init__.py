"""Who was in the conference: Twilio Voice Insights' participants, streamed to asyncio code."""

from . import errors, events, models
from ._credentials import Credentials
from ._fan_out import ConferenceResult, FanOut, MergedParticipants
from ._retrying import RetryPolicy
from ._session import InsightsSession
from ._stream import RecordStream
from ._version import __version__
from .errors import (
    APIStatusError,
    Attempt,
    AuthenticationError,
    BadRequestError,
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
from .events import SessionStats
from .models import (
    AvgMax,
    CallDirection,
    CallStatus,
    CallType,
    JitterBufferSize,
    MediaMetrics,
    Page,
    PageMeta,
    Participant,
    ParticipantMetrics,
    ParticipantProperties,
    ProcessingState,
    Region,
)

__all__ = [
    "APIStatusError",
    "Attempt",
    "AuthenticationError",
    "AvgMax",
    "BadRequestError",
    "CallDirection",
    "CallStatus",
    "CallType",
    "ConferenceResult",
    "Credentials",
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
    "RecordStream",
    "Region",
    "RequestTimeoutError",
    "ResponseError",
    "RetryPolicy",
    "ServerError",
    "SessionClosedError",
    "SessionStats",
    "TransportError",
    "__version__",
    "errors",
    "events",
    "models",
]
