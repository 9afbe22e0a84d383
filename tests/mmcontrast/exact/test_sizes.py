"""Sizes are read at each call, so that one that is set is used from then on."""

import ast
import itertools
from pathlib import Path

import pytest

from mmcontrast.exact import sizes
from mmcontrast.exact.choose import rows_at_a_time

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "mmcontrast" / "exact" / "sizes.py"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
NAMES = [name for name in vars(sizes) if name.isupper()]


def trees(*packages):
    """The modules that say the word at all."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "sizes" in text:
                yield path.relative_to(ROOT), ast.parse(text)


def reads(node, inside=False):
    """(NAME, whether it is read in the body of a function) for each ``sizes.NAME``."""
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "sizes":
        yield node.attr, inside
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from reads(child, inside or (isinstance(node, FUNCTIONS) and field == "body"))


def test_a_default_and_a_constant_are_no_calls():
    source = "A = sizes.A\ndef f(x=sizes.B):\n    return sizes.C\ng = lambda x=sizes.D: sizes.E"
    assert dict(reads(ast.parse(source))) == {"A": False, "B": False, "C": True, "D": False, "E": 1}


def test_nobody_imports_a_size_by_its_name():
    offenders = [
        f"{path}:{node.lineno}"
        for path, tree in trees("mmcontrast", "reference_models", "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("sizes")
    ]
    assert offenders == []


def found_in_the_library():
    return [
        (str(path), name, inside)
        for path, tree in trees("mmcontrast")
        if "sizes" in imported(tree)
        for name, inside in reads(tree)
    ]


def imported(tree):
    """What a module imports from mmcontrast.exact."""
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "mmcontrast.exact"
        for alias in node.names
    }


def test_a_size_is_read_at_the_call_and_not_at_the_import():
    assert [(path, name) for path, name, inside in found_in_the_library() if not inside] == []


def test_every_size_is_read_and_nothing_else_is():
    assert {name for _, name, _ in found_in_the_library()} == set(NAMES)


def test_every_size_has_a_docstring():
    body = ast.parse(SOURCE.read_text(encoding="utf-8")).body
    said = {
        ast.unparse(node.targets[0])
        for node, after in itertools.pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and str(after.value.value).strip()
    }
    assert said == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_whole_numbers_above_0(name):
    size = getattr(sizes, name)
    if isinstance(size, dict):
        assert set(size) == {"cpu", "other"}
        size = tuple(size.values())
    for number in size if isinstance(size, tuple) else (size,):
        assert type(number) is int
        assert number > 0


def test_a_size_that_is_set_is_used(monkeypatch):
    monkeypatch.setattr(sizes, "TILE", 3)
    assert rows_at_a_time(8, 8, None) is None
    monkeypatch.setattr(sizes, "SPLIT", 64)
    assert rows_at_a_time(8, 8, None) == 3
    monkeypatch.setattr(sizes, "SPLIT", 65)
    assert rows_at_a_time(8, 8, None) is None
