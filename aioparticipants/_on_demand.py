"""Fields of records that are built when they are first read.

Nested records are nine of the ten objects of a participant, and most users read few of them. Such a
field is declared with `metadata=on_demand(…)`; its slot holds the decoded JSON, whose types were
checked before, until it is read for the first time.

1. Whoever makes a record by hand gets its values checked at once, so that no attribute fails later.
2. Threads may read the same record, and there is no lock: if two build a value at the same time,
   both get equal ones, as the JSON never changes. The record keeps the later one.
3. `_structuring`, which can build, registers itself in `builders`.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar, cast

import attrs

from ._field_docs import field_docs

__all__ = ["builders", "on_demand", "with_fields_on_demand"]

T = TypeVar("T")


class Builder(Protocol):
    """Makes the values that a field holds."""

    def build(self, raw: Any, /) -> object:
        """Build the value from decoded JSON that was found to fit."""
        ...

    def check(self, value: object, name: str, /) -> object:
        """Return what the field `name` holds for a value given by hand.

        Raises:
            InvalidRequestError: it does not fit.
        """
        ...


#: For each class of values that are built on demand, what builds them.
builders: Final[dict[type, Builder]] = {}

_KEY: Final = "built on demand"


def on_demand(kind: type) -> dict[str, type]:
    """Return the metadata of an attrs field that holds a `kind` or None, built on demand."""
    return {_KEY: kind}


def with_fields_on_demand(record_class: type[T]) -> type[T]:
    """Decorate a frozen attrs class with slots that has fields declared by `on_demand`."""
    for field in attrs.fields(cast("type", record_class)):
        if _KEY in field.metadata:
            kind = field.metadata[_KEY]
            setattr(record_class, field.name, _OnDemand(record_class, field.name, kind))
    return record_class


class _OnDemand(property):
    """The attribute of such a field."""

    def __init__(self, record_class: type, name: str, kind: type) -> None:
        slot: Any = vars(record_class)[name]
        get, put = slot.__get__, slot.__set__

        def read(record: object) -> object:
            value = get(record)
            if value.__class__ is kind or value is None:
                return value
            value = builders[kind].build(value)
            put(record, value)
            return value

        def write(record: object, value: object) -> None:
            put(record, builders[kind].check(value, name))

        read.__annotations__["return"] = kind | None  # pdoc shows it
        super().__init__(read, write, doc="replaced below")
        self._owner = record_class
        self._name = name

    @property
    def __doc__(self) -> str | None:  # type: ignore[override] # read from the source when asked
        return field_docs(self._owner).get(self._name)
