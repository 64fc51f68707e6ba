"""The package as a whole: its public names, version, types and imports."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import aioparticipants
from aioparticipants import errors, models


def test_public_names():
    """`__all__` is sorted and complete: every error and every model is in it."""
    assert aioparticipants.__all__ == sorted(aioparticipants.__all__)
    assert all(hasattr(aioparticipants, name) for name in aioparticipants.__all__)
    family = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.InsightsError)
    }
    assert family <= set(aioparticipants.__all__)
    assert set(models.__all__) - {"FrozenMapping"} <= set(aioparticipants.__all__)


def test_version():
    """The version in the metadata is the version in the package."""
    assert importlib.metadata.version("aioparticipants") == aioparticipants.__version__


def test_typed():
    """The package is marked as typed (PEP 561)."""
    assert importlib.resources.files("aioparticipants").joinpath("py.typed").is_file()


def test_dependencies():
    """The only dependencies are aiohttp, attrs, cattrs and tenacity."""
    needed = [
        re.match(r"[a-z]+", each).group()
        for each in importlib.metadata.requires("aioparticipants")
        if "extra ==" not in each
    ]

    assert sorted(needed) == ["aiohttp", "attrs", "cattrs", "tenacity"]


def test_import_is_silent_and_light():
    """The import warns and prints nothing, and imports neither rich nor the test server."""
    code = (
        "import aioparticipants, sys; "
        "assert not {'rich', 'aioparticipants.testing', 'argparse'} & {*sys.modules}"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_docstrings():
    """Every public class, function and method has a docstring."""
    missing = []
    for name in aioparticipants.__all__:
        thing = getattr(aioparticipants, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        members = [
            (f"{name}.{each}", value)
            for each, value in vars(thing).items()
            if inspect.isfunction(value) and not each.startswith("_")
        ]
        missing += [each for each, value in [(name, thing), *members] if not inspect.getdoc(value)]

    assert missing == []


def test_docstrings_of_fields():
    """Each field of each model is followed by a docstring."""
    tree = ast.parse(Path(models.__file__).read_text(encoding="utf-8"))
    pairs = [
        pair
        for kind in tree.body
        if isinstance(kind, ast.ClassDef)
        for pair in itertools.pairwise(kind.body)
        if isinstance(pair[0], ast.AnnAssign)
    ]
    bare = [
        field.target.id
        for field, after in pairs
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]

    assert len(pairs) >= 60
    assert bare == []
