"""The published description, for the tests that judge by it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

DESCRIPTION = Path(os.environ.get("INSIGHTS_OPENAPI", ""))


@pytest.fixture
def description():
    """Return the description as it is published."""
    if not DESCRIPTION.is_file():
        pytest.skip("INSIGHTS_OPENAPI names no file: the published description is missing")
    return json.loads(DESCRIPTION.read_text(encoding="utf-8"))


@pytest.fixture
def normalised(description):
    """Return the description without what disables or misleads validators.

    Prism's rejects `nullable` without `type`, and then accepts every message. OpenAPI 3.0 ignores
    all members beside `$ref`, also `nullable`.
    """
    schemas = description["components"]["schemas"]

    def normalise(node):
        if isinstance(node, list):
            for each in node:
                normalise(each)
        elif isinstance(node, dict):
            if "$ref" in node and node.get("nullable"):
                target = schemas[node.pop("$ref").rsplit("/", 1)[1]]
                node["type"] = target.get("type", "object")
                if "enum" in target:
                    node["enum"] = list(target["enum"])
            if node.get("nullable") and "type" not in node:
                del node["nullable"]
            for each in node.values():
                normalise(each)

    normalise(description)
    return description
