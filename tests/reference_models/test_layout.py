"""How the package is laid out: imports run one way, and a name means one thing."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import reference_models
from reference_models.registry import FOLDERS

ROOT = Path(reference_models.__file__).parent
FILES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
PAPERS = [folder.removeprefix("reference_models.") for folder in FOLDERS]
# Each may import those before it, and itself.
ORDER = ["checks", "training_config", "data", "layers", "paper", *PAPERS, "registry", "keys"]
ORDER += ["running", "tables", "demo", "commands", "__main__"]
LONGEST = 262


def imports(path):
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reference_models"):
            module = node.module.removeprefix("reference_models").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                found = [n for n in (inner, f"{inner}.__init__") if n in FILES]
                yield found[0] if found else module if module in FILES else f"{module}.__init__"


GRAPH = {name: set(imports(path)) for name, path in FILES.items()}


def test_imports_run_downwards():
    for name, imported in GRAPH.items():
        if name == "__init__":
            continue
        here = name.split(".")[0]
        below = ORDER[: ORDER.index(here) + 1]
        if here in PAPERS:  # papers do not import each other
            below = [part for part in below if part not in PAPERS or part == here]
        assert {other.split(".")[0] for other in imported} <= set(below), name


def test_no_import_is_a_circle():
    assert list(TopologicalSorter(GRAPH).static_order())


def test_a_file_name_means_one_thing():
    same = defaultdict(list)
    for name in FILES:
        same[name.rpartition(".")[2]].append(name)
    shared = {leaf for leaf, names in same.items() if len(names) > 1}
    assert shared == {"__init__", "network", "settings"}
    for leaf in ("network", "settings"):
        assert {name.split(".")[0] for name in same[leaf]} == set(PAPERS)


def test_a_function_name_means_one_thing():
    same = defaultdict(list)
    for name, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                same[node.name].append(name)
    assert {name: files for name, files in same.items() if len(files) > 1} == {}


def test_files_stay_short():
    long = {name: path.read_text().count("\n") for name, path in FILES.items()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


def test_every_module_has_a_test_of_its_name():
    tests = Path(__file__).parent
    for path in FILES.values():
        if path.name != "__init__.py":
            test = f"test_{path.name.replace('__', '')}"
            assert (tests / path.relative_to(ROOT).parent / test).is_file(), path
