"""The help of the package explains every field, and contains nothing from the environment."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import subprocess
import sys

import attrs
import pytest

import aioparticipants
from aioparticipants import Credentials, event_streams, instrumentation, models
from aioparticipants._field_docs import field_docs

#: Renders what `help()`, IPython and Sphinx show for each public name and its members.
SHOW = """
import importlib, inspect, json, pydoc

PUBLIC = ("", ".errors", ".event_streams", ".instrumentation", ".models", ".testing")


def help_of(thing):
    # pydoc looks up the object that a str names.
    return thing if isinstance(thing, str) else pydoc.render_doc(thing, renderer=pydoc.plaintext)


def members(name, thing):
    yield name, thing
    if inspect.isclass(thing):
        for each, value in inspect.getmembers(thing):
            # attrs' own description is long, and made of the class; what is inherited is Python's.
            if each != "__attrs_attrs__" and value is not getattr(Exception, each, None):
                yield f"{name}.{each}", value


shown = {}
for suffix in PUBLIC:
    module = importlib.import_module("aioparticipants" + suffix)
    shown[module.__name__] = help_of(module)
    for name in module.__all__:
        for each, value in members(name, getattr(module, name)):
            place = f"{module.__name__}.{each}"
            shown[place] = help_of(value)
            try:
                shown[place] += str(inspect.signature(value))
            except (TypeError, ValueError):  # it has no signature
                pass
            shown[place] += repr(getattr(value, "__defaults__", "")) + repr(value)
print(json.dumps(shown))
"""

#: Environment variables with values that occur nowhere else.
PLANTED = {
    name: f"planted-{number}-s3cret"
    for number, name in enumerate(
        [
            *("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_API_KEY", "TWILIO_API_SECRET"),
            *("TWILIO_API_KEY_SECRET", "TWILIO_INSIGHTS_BASE_URL", "TWILIO_REGION", "TWILIO_EDGE"),
            *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "NO_PROXY", "DATABASE_URL", "COLUMNS"),
        ]
    )
}


def test_help_holds_no_secret():
    """No help text, signature or default of a public name shows a value of the environment."""
    ran = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=os.environ | PLANTED,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    shown = json.loads(ran.stdout)
    assert len(shown) > 500
    assert "from_env" in shown["aioparticipants.InsightsSession"]
    assert "add_conference" in shown["aioparticipants.testing.FakeInsights"]
    leaking = [name for name, text in shown.items() if "planted-" in text or "environ(" in text]
    assert leaking == []


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for module in (aioparticipants, event_streams, instrumentation, models)
        for kind in map(vars(module).get, module.__all__)
        if inspect.isclass(kind) and attrs.has(kind) and kind is not Credentials
    ],
)
def test_help_explains_each_field(kind):
    """`help()` of a public class shows the meaning of each field."""
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext).replace("|", " ")

    for field in attrs.fields(kind):
        meaning = inspect.cleandoc(field_docs(kind)[field.name])
        assert " ".join(meaning.replace("|", " ").split()) in " ".join(shown.split())
