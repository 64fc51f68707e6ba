"""Test doubles for code that uses this package: a real server that behaves as the API does."""

from ._fake import FakeInsights, SeenRequest

__all__ = ["FakeInsights", "SeenRequest"]
