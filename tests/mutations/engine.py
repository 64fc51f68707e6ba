"""Deliberate faults: where they are, what they change, and which test has to fail.

1. An anchor is a module and the qualified name of a class or function in it, as in
   `_stream:RecordStream.aclose`. `_retrying:` is the whole module.
2. An operation finds its place inside the anchor by an expression, or a simple statement, which is
   compared by its structure. Comments, docstrings, formatting and line numbers do not matter.
3. In such an expression a name also finds the attribute of that name (`closed` finds
   `self._tasks.closed`), `_` finds any expression, and `...` finds any further arguments.
4. An anchor or an expression that is missing, or is found more than once, raises `AnchorError`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

Operation = Callable[[ast.AST], None]


class AnchorError(Exception):
    """A fault does not fit the package: what it looks for is missing, or is there twice."""


class Fault(NamedTuple):
    """A fault: its name, the tests that have to notice it, and its operations by anchor."""

    name: str
    tests: str
    """Arguments of pytest. The first is a file of tests/."""
    edits: dict[str, Operation | list[Operation]]

    def apply(self, sources: Callable[[str], str]) -> dict[str, str]:
        """Return the new source of each module that changes.

        Args:
            sources: returns the source of a module, given its name, as `_cli._list`.
        """
        trees: dict[str, ast.Module] = {}
        for anchor, edits in self.edits.items():
            module, _, name = anchor.partition(":")
            tree = trees.setdefault(module, ast.parse(sources(module)))
            scope = _find_definition(tree, name, anchor)
            for operation in edits if isinstance(edits, list) else [edits]:
                before = ast.dump(scope)
                try:
                    operation(scope)
                except AnchorError as error:
                    raise AnchorError(f"{anchor}: {error}") from None
                if ast.dump(scope) == before:
                    raise AnchorError(f"{anchor}: the operation changes nothing")
        return {module: ast.unparse(ast.fix_missing_locations(t)) for module, t in trees.items()}


# --- Operations ---


def replace(old: str, new: str) -> Operation:
    """Replace an expression by another one."""

    def apply(scope: ast.AST) -> None:
        _the_place(scope, old).put(_expression(new))

    return apply


def rewrite(old: str, new: str) -> Operation:
    """Replace the innermost statement that contains an expression."""

    def apply(scope: ast.AST) -> None:
        _the_statement(scope, old).put(*ast.parse(new).body)

    return apply


def drop(old: str) -> Operation:
    """Drop the innermost statement that contains an expression."""
    return rewrite(old, "pass")


def insert_before(old: str, new: str) -> Operation:
    """Insert statements before the innermost statement that contains an expression."""

    def apply(scope: ast.AST) -> None:
        place = _the_statement(scope, old)
        place.put(*ast.parse(new).body, place.node)

    return apply


def insert_after(old: str, new: str) -> Operation:
    """Insert statements after the innermost statement that contains an expression."""

    def apply(scope: ast.AST) -> None:
        place = _the_statement(scope, old)
        place.put(place.node, *ast.parse(new).body)

    return apply


def swap(first: str, second: str) -> Operation:
    """Swap two statements, each given by an expression in it."""

    def apply(scope: ast.AST) -> None:
        one, other = _the_statement(scope, first), _the_statement(scope, second)
        # Both are put by index: neither list changes its length.
        one.put(other.node)
        other.put(one.node)

    return apply


def body(new: str) -> Operation:
    """Replace all that a function does."""

    def apply(scope: ast.AST) -> None:
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            raise AnchorError("the anchor of `body` must be a function")
        scope.body = ast.parse(new).body

    return apply


def never(old: str) -> Operation:
    """Make the condition that contains an expression false."""
    return _condition(old, "False")


def always(old: str) -> Operation:
    """Make the condition that contains an expression true."""
    return _condition(old, "True")


def omit(old: str) -> Operation:
    """Leave an expression out of the `and`, `or`, collection or call that it is part of."""

    def apply(scope: ast.AST) -> None:
        place = _the_place(scope, old)
        if place.index is None:
            raise AnchorError(f"`{old}` is not one of several")
        place.put()

    return apply


def argument(name: str, new: str | None) -> Operation:
    """Give a keyword argument another value in the call that has it; without one, leave it out."""

    def apply(scope: ast.AST) -> None:
        found = [
            place
            for place in _places(scope)
            if isinstance(place.node, ast.keyword) and place.node.arg == name
        ]
        place = _only(found, f"argument {name}=")
        place.put(*([] if new is None else [ast.keyword(name, _expression(new))]))

    return apply


def assign(name: str, new: str) -> Operation:
    """Assign another value to a variable, constant or attribute."""

    def apply(scope: ast.AST) -> None:
        wanted = _expression(name)
        found = [
            place.node
            for place in _places(scope)
            if isinstance(place.node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
            and any(_matches(wanted, target) for target in _targets(place.node))
        ]
        _only(found, f"assignment to `{name}`").value = _expression(new)

    return apply


def default(parameter: str, new: str) -> Operation:
    """Give a parameter of the function another default value."""

    def apply(scope: ast.AST) -> None:
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            raise AnchorError("the anchor of `default` must be a function")
        args = scope.args
        positional = [*args.posonlyargs, *args.args]
        for names, values in (
            (positional[len(positional) - len(args.defaults) :], args.defaults),
            (args.kwonlyargs, args.kw_defaults),
        ):
            for index, each in enumerate(names):
                if each.arg == parameter:
                    values[index] = _expression(new)
                    return
        raise AnchorError(f"no parameter {parameter} with a default value")

    return apply


def raises(old: str, new: str) -> Operation:
    """Raise something else where the raised expression contains `old`."""
    return _whole(ast.Raise, "exc", old, new)


def returns(old: str, new: str) -> Operation:
    """Return something else where the returned expression contains `old`."""
    return _whole(ast.Return, "value", old, new)


def reraise(kind: str, *, trying: str = "_") -> Operation:
    """Let the handler of an exception only raise it again; `trying` is in its `try` block."""
    return handle(kind, "raise", trying=trying)


def handle(kind: str, new: str, *, trying: str = "_") -> Operation:
    """Replace all that the handler of an exception does; `trying` is in its `try` block."""

    def apply(scope: ast.AST) -> None:
        wanted, tried = _expression(kind), _expression(trying)
        found = [
            place.node
            for place in _places(scope)
            if isinstance(place.node, ast.ExceptHandler)
            and place.node.type is not None
            and _contains(place.node.type, wanted)
            and any(_contains(each, tried) for each in place.parent.body)
        ]
        _only(found, f"handler of {kind}").body = ast.parse(new).body

    return apply


# --- Places in a tree ---


class _Place(NamedTuple):
    """A node, and where its parent has it."""

    node: ast.AST
    parent: ast.AST
    field: str
    index: int | None
    """Its position in a list of nodes."""

    def put(self, *nodes: ast.AST) -> None:
        """Put other nodes in its place."""
        if self.index is None:
            (node,) = nodes
            setattr(self.parent, self.field, node)
            return
        siblings = getattr(self.parent, self.field)
        siblings[self.index : self.index + 1] = nodes


def _places(scope: ast.AST) -> Iterator[_Place]:
    """Yield every place below a node, outermost first."""
    for field, value in ast.iter_fields(scope):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and not isinstance(node, ast.expr_context):
                yield _Place(node, scope, field, index)
                yield from _places(node)


def _the_place(scope: ast.AST, old: str) -> _Place:
    found = _find(scope, _pattern(old))
    read = [each for each in found if not isinstance(getattr(each.node, "ctx", None), ast.Store)]
    return _only(read, f"`{old}`")


def _the_statement(scope: ast.AST, old: str) -> _Place:
    """Return the innermost statement that contains an expression."""
    return _only(_innermost(scope, old, lambda place: isinstance(place.node, ast.stmt)), f"`{old}`")


def _condition(old: str, new: str) -> Operation:
    def apply(scope: ast.AST) -> None:
        found = _innermost(scope, old, lambda place: place.field in {"test", "ifs"})
        _only(found, f"condition with `{old}`").put(_expression(new))

    return apply


def _whole(kind: type, field: str, old: str, new: str) -> Operation:
    """Replace a whole field of the statements of a kind in which it contains an expression."""

    def apply(scope: ast.AST) -> None:
        pattern = _expression(old)
        found = [
            place
            for place in _places(scope)
            if isinstance(place.parent, kind)
            and place.field == field
            and _contains(place.node, pattern)
        ]
        _only(found, f"{kind.__name__.lower()} of `{old}`").put(_expression(new))

    return apply


def _innermost(scope: ast.AST, old: str, wanted: Callable[[_Place], bool]) -> list[_Place]:
    """Return the innermost wanted places that contain an expression."""
    pattern = _pattern(old)
    found = [place for place in _places(scope) if wanted(place) and _contains(place.node, pattern)]
    nodes = [place.node for place in found]
    return [
        place for place in found if not any(inner.node in nodes for inner in _places(place.node))
    ]


def _find(scope: ast.AST, pattern: ast.AST) -> list[_Place]:
    return [place for place in _places(scope) if _matches(pattern, place.node)]


def _contains(node: ast.AST, pattern: ast.AST) -> bool:
    return _matches(pattern, node) or bool(_find(node, pattern))


def _only(found, what):
    if len(found) != 1:
        times = f"is there {len(found)} times" if found else "is missing"
        raise AnchorError(f"{what} {times}")
    return found[0]


def _find_definition(tree: ast.Module, name: str, anchor: str) -> ast.AST:
    scope: ast.AST = tree
    for part in name.split(".") if name else ():
        found = [each for each in _definitions(scope) if each.name == part]
        if len(found) != 1:
            raise AnchorError(f"{anchor}: there are {len(found)} definitions of {part}")
        scope = found[0]
    return scope


def _definitions(scope: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the classes and functions right inside a scope, overloads apart."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _definitions(node)
        elif "overload" not in map(ast.unparse, node.decorator_list):
            yield node


# --- Expressions ---


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def _pattern(source: str) -> ast.AST:
    """Return an expression, or a statement that is none."""
    (node,) = ast.parse(source).body
    return node.value if isinstance(node, ast.Expr) else node


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_ellipsis(node: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _matches(pattern: ast.AST, node: object) -> bool:
    """Tell whether a node is what a pattern describes."""
    if isinstance(pattern, ast.Name):
        if pattern.id == "_":
            return isinstance(node, ast.expr)
        if isinstance(node, ast.Attribute):
            return node.attr == pattern.id
    if isinstance(pattern, ast.Call) and isinstance(node, ast.Call) and _is_open(pattern.args):
        return _matches(pattern.func, node.func) and _same(pattern.args, node.args)
    return type(pattern) is type(node) and all(
        _same(value, getattr(node, field, None))
        for field, value in ast.iter_fields(pattern)
        if field not in {"ctx", "kind"}
    )


def _same(pattern: object, value: object) -> bool:
    if isinstance(pattern, list) and isinstance(value, list):
        if _is_open(pattern):
            pattern = pattern[:-1]
            value = value[: len(pattern)]
        return len(pattern) == len(value) and all(map(_same, pattern, value))
    if isinstance(pattern, ast.AST):
        return _matches(pattern, value)
    return type(pattern) is type(value) and pattern == value


def _is_open(nodes: list) -> bool:
    """Tell whether a list of nodes ends in `...`."""
    return bool(nodes) and isinstance(nodes[-1], ast.Constant) and nodes[-1].value is ...
