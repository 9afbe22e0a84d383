"""How reference_models is laid out; ``tests/test_layout.py`` has the laws of both packages."""

import ast
import dataclasses
from importlib import import_module
from pathlib import Path

import reference_models
from reference_models.registry import FOLDERS

ROOT = Path(reference_models.__file__).parent
FILES = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
PAPERS = [folder.removeprefix("reference_models.") for folder in FOLDERS]
# Each may import those before it, and itself.
ORDER = ["checks", "excerpt", "data", "training_config", "layers", "paper", *PAPERS]
ORDER += ["registry", "keys"]
ORDER += ["running", "tables", "demo", "commands", "__main__"]
LONGEST = 272


def imports(path):
    """The modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reference_models"):
            module = node.module.removeprefix("reference_models").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                found = [n for n in (inner, f"{inner}.__init__") if n in FILES]
                yield found[0] if found else module if module in FILES else f"{module}.__init__"


def test_imports_run_downwards():
    for name, path in FILES.items():
        if name == "__init__":
            continue
        here = name.split(".")[0]
        assert here in ORDER, (
            f"{here}: add a paper to FOLDERS of the registry, a room to ORDER here"
        )
        below = ORDER[: ORDER.index(here) + 1]
        if here in PAPERS:  # papers do not import each other
            below = [part for part in below if part not in PAPERS or part == here]
        assert {other.split(".")[0] for other in imports(path)} <= set(below), name


def test_papers_and_nothing_else_have_a_network_and_settings():
    for leaf in ("network", "settings"):
        assert {n.split(".")[0] for n in FILES if n.endswith(f".{leaf}")} == set(PAPERS), leaf


def test_what_is_written_once_is_frozen():
    """But the rows of a plan, which fill while it runs."""
    written = {}
    for name in FILES:
        module = import_module(f"reference_models.{name}".removesuffix(".__init__"))
        for kind in vars(module).values():
            if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
                written[kind] = kind.__dataclass_params__.frozen
    assert len(written) > 20
    assert [kind.__name__ for kind, frozen in written.items() if not frozen] == ["Row"]


def test_files_stay_short():
    long = {name: path.read_text().count("\n") for name, path in FILES.items()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}
