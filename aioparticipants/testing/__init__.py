"""A test server for code that uses this package: `FakeInsights` behaves as the real API does."""

from ._fake import FakeInsights, SeenRequest

__all__ = ["FakeInsights", "SeenRequest"]
