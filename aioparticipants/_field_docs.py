"""Documentation of fields: the text below a field in the source, shown by `help()` as well.

Editors and pdoc read the string literal below a field. Python drops it. `help()` shows the values
of `__slots__` where that is a dict (https://docs.python.org/3/reference/datamodel.html#slots), so
`documented` puts such a dict there. It reads the source only when somebody asks for a text, so that
importing the package costs nothing.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import TypeVar

__all__ = ["documented", "field_docs"]

T = TypeVar("T")


@cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the texts below the fields of a class; none if its source is not installed."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # the latter: there is not even a module
        return {}
    found: dict[str, str] = {}
    for field, below in pairwise(ast.walk(ast.parse(dedent(source)))):
        match field, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                found[name] = inspect.cleandoc(text)
            case _:
                pass
    return found


class _SlotDocs(dict[str, str]):
    """The slots of a class, each with the text below its field."""

    def __init__(self, kind: type) -> None:
        super().__init__(dict.fromkeys(vars(kind)["__slots__"], ""))
        self._kind = kind

    def __getitem__(self, name: str) -> str:
        return field_docs(self._kind).get(name, "")


def documented(kind: type[T]) -> type[T]:
    """Decorate a class with slots, such as an attrs class, so that `help()` explains its fields."""
    kind.__slots__ = _SlotDocs(kind)  # type: ignore[attr-defined] # of any class with slots
    return kind
