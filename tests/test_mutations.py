"""The engine of the deliberate faults in tests/mutations/."""

from __future__ import annotations

import ast

import pytest

from .mutations.engine import (
    AnchorError,
    Fault,
    always,
    argument,
    assign,
    body,
    default,
    drop,
    insert_after,
    insert_before,
    never,
    omit,
    raises,
    replace,
    reraise,
    returns,
    rewrite,
    swap,
)

SOURCE = '''
LIMIT = 3

class Reader:
    """Reads."""

    def read(self, size=1):
        """Read."""
        if self._closed and size > LIMIT:
            raise Closed("read")
        try:
            first = self._take(size, wait=True)
            self.count += 1
        except OSError:
            first = None
        return first

    def close(self):
        self._closed = True
'''


def changed(operation, anchor="a:Reader.read", source=SOURCE):
    """Return what an operation makes of the source."""
    return Fault("x", "", {anchor: operation}).apply(lambda _: source)["a"]


@pytest.mark.parametrize(
    ("operation", "old", "new"),
    [
        (replace("LIMIT", "5"), "size > LIMIT", "size > 5"),
        (drop("_take(...)"), "first = self._take(size, wait=True)", "pass"),
        (drop("self.count += 1"), "self.count += 1", "pass"),
        (rewrite("count", "self.count -= 1"), "self.count += 1", "self.count -= 1"),
        (never("_closed"), "self._closed and size > LIMIT", "False"),
        (always("LIMIT"), "self._closed and size > LIMIT", "True"),
        (omit("size > _"), "self._closed and size > LIMIT", "self._closed"),
        (omit("size"), None, None),
        (argument("wait", "False"), "wait=True", "wait=False"),
        (argument("wait", None), ", wait=True", ""),
        (default("size", "9"), "size=1", "size=9"),
        (raises("Closed(...)", "EOFError"), "Closed('read')", "EOFError"),
        (returns("first", "0"), "return first", "return 0"),
        (reraise("OSError", trying="_take(...)"), "first = None", "raise"),
        (insert_before("count", "a()"), "self.count += 1", "a()\n            self.count += 1"),
        (insert_after("count", "a()"), "self.count += 1", "self.count += 1\n            a()"),
    ],
)
def test_operations(operation, old, new):
    """An operation changes what it names, and nothing else."""
    if old is None:
        with pytest.raises(AnchorError, match=r"a:Reader.read: `size` is there 2 times"):
            changed(operation)
        return
    whole = ast.unparse(ast.parse(SOURCE))
    assert whole.count(old) == 1
    assert changed(operation) == whole.replace(old, new)


def test_operations_of_other_places():
    """Constants, whole bodies and the order of statements change as well."""
    assert "LIMIT = 0" in changed(assign("LIMIT", "0"), "a:")
    assert "def close(self):\n        pass" in changed(body("pass"), "a:Reader.close")
    swapped = changed(swap("_take(...)", "count"))
    assert swapped.index("count += 1") < swapped.index("_take(")


def test_anchors_survive_what_does_not_matter():
    """Comments, docstrings, formatting and lines above do not matter to an anchor."""
    other = "'''New.'''\n\n\n" + SOURCE.replace('"""Read."""', '"""Read\n\n    much."""').replace(
        "self._take(size, wait=True)", "self._take(  # now\n size,\n wait=True)"
    )

    assert "pass" in changed(drop("_take(size, wait=True)"), source=other)


@pytest.mark.parametrize(
    ("anchor", "operation", "message"),
    [
        ("a:Reader.write", drop("_take(...)"), "a:Reader.write: there are 0 definitions of write"),
        ("a:Reader.close", drop("_take(...)"), r"a:Reader.close: `_take\(...\)` is missing"),
        ("a:Reader", drop("_closed"), "a:Reader: `_closed` is there 2 times"),
        ("a:", replace("LIMIT", "LIMIT"), "a:: the operation changes nothing"),
        ("a:Reader.read", reraise("ValueError"), "handler of ValueError is missing"),
    ],
)
def test_what_is_missing_or_ambiguous(anchor, operation, message):
    """An anchor that is missing or ambiguous is an error that names it."""
    with pytest.raises(AnchorError, match=message):
        changed(operation, anchor)
