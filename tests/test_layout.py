"""The laws of the house: where files lie, what they are called, and who imports whom.

All of it is read from the source by ``ast``; nothing is imported. A test that fails lists every
offender at once.
"""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mmcontrast", "reference_models")

DIRECTORIES = {"mmcontrast", "reference_models", "tests", "notebooks"}
FILES = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"}

TESTED_ELSEWHERE = {
    "*/__init__.py": "names alone; tests/mmcontrast/test_package.py goes over the public ones",
    "mmcontrast/testing/__main__.py": "tests/mmcontrast/testing/test_command.py",
    "mmcontrast/testing/checks/*.py": "tests/mmcontrast/testing/test_broken.py tries every law",
    "mmcontrast/testing/broken/*.py": "tests/mmcontrast/testing/test_broken.py tries every mistake",
    "reference_models/__main__.py": "tests/reference_models/test_main.py",
}
"""Patterns of modules without a test file of their name, and where they are tested."""

SHARED_FILE_NAMES = {
    "__init__.py": "every package has one",
    "__main__.py": "every command has one",
    "network.py": "each paper's folder has its network",
    "settings.py": "each paper's folder has its settings",
}
"""File names that a package has several times, and why."""

SHARED_FOLDERS = {
    (
        "testing/broken",
        "testing/checks",
    ): "mistakes lie where the laws do that they break",
}
"""Folders of one package whose file names may be the same, and why."""

SHARED_NAMES = {"main": "each command's own entry"}
"""Functions and classes that several files of a package may define, and why."""

BENEATH = {"interop", "testing"}
"""Parts of mmcontrast that the rest of it does not import."""

BELOW_EXACT = {
    *(
        "arguments",
        "collectives",
        "distance_matrix",
        "distances",
        "distributed",
        "eager",
        "exact",
        "gaps",
        "masks",
    ),
    *("presence", "reductions", "rows", "softmax", "wide"),
}
"""All that mmcontrast/exact imports of the package: itself, and what every loss shares."""

ALLOWED = {"torch", "numpy", "einops", "mmcontrast", *sys.stdlib_module_names}
ALLOWED_IN = {"mmcontrast/exact/kernels/triton_tiles.py": {"triton"}}


def modules(*packages: str) -> list[Path]:
    """Paths of all modules, from the root of the repository."""
    found = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found)


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def fail_if(offenders: Iterable[str]) -> None:
    """One message with all of them."""
    lines = sorted(set(offenders))
    if lines:
        pytest.fail("\n".join([f"{len(lines)} found:", *lines]), pytrace=False)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def at_import(node: ast.AST) -> Iterator[ast.stmt]:
    """The import statements that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif is_type_checking(child):
            yield from (found for other in child.orelse for found in at_import(other))
        else:
            yield from at_import(child)


def imported(statement: ast.stmt, path: Path, known: set[str]) -> Iterator[str]:
    """Dotted names of the modules that a statement imports, as far as they can be told apart."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            package = dotted(path).split(".")
            package = package if path.name == "__init__.py" else package[:-1]
            package = package[: len(package) - statement.level + 1]
            base = ".".join([*package, *([base] if base else [])])
        for alias in statement.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in known else base


def imports(path: Path, known: set[str]) -> set[str]:
    """What a module imports when it is imported itself."""
    return {name for node in at_import(tree(path)) for name in imported(node, path, known)}


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(decorator).split(".")[-1] == "overload" for decorator in decorators)


def defined(module: ast.Module) -> list[str]:
    """Names of a module's functions and classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in module.body if isinstance(node, kinds) and not is_overload(node)]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# --- files ---------------------------------------------------------------------------------------


def test_every_module_has_a_test_file_of_its_name():
    missing = []
    for path in modules(*PACKAGES):
        if any(fnmatch(str(path), pattern) for pattern in TESTED_ELSEWHERE):
            continue
        expected = Path("tests", path.parent, f"test_{path.name}")
        if not (ROOT / expected).is_file():
            missing.append(f"{path}: expected {expected}")
    fail_if(missing)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_files_share_a_name(package):
    by_name = defaultdict(list)
    for path in modules(package):
        if path.name not in SHARED_FILE_NAMES:
            by_name[path.name].append(path)
    fail_if(
        f"{name}: {', '.join(map(str, paths))}"
        for name, paths in by_name.items()
        if len(paths) > 1
        and tuple(str(path.parent.relative_to(package)) for path in paths) not in SHARED_FOLDERS
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_functions_of_different_files_share_a_name(package):
    """A name says one thing; what is the same has one definition."""
    by_name = defaultdict(list)
    for path in modules(package):
        for name in set(defined(tree(path))) - set(SHARED_NAMES):
            by_name[name].append(path)
    fail_if(
        f"{name}: {', '.join(map(str, paths))}" for name, paths in by_name.items() if len(paths) > 1
    )


def test_no_function_is_defined_twice():
    found = {path: Counter(defined(tree(path))) for path in modules(*PACKAGES)}
    fail_if(f"{path}: {name}" for path, names in found.items() for name in names if names[name] > 1)


def test_names_with_an_underscore_stay_in_their_file():
    """Neither imported from another module nor read from one as an attribute."""
    known = {dotted(path) for path in modules(*PACKAGES)}
    offenders = []
    for path in modules(*PACKAGES):
        module, ours = tree(path), set()
        for node in ast.walk(module):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = imported(node, path, known)
            for alias, name in zip(node.names, names, strict=True):
                if name.split(".")[0] in PACKAGES:
                    ours.add(alias.asname or alias.name)
                    if is_private(alias.name) and name.split(".")[-1] != alias.name:
                        offenders.append(f"{path}:{node.lineno}: imports {alias.name} of {name}")
        for node in ast.walk(module):
            private = isinstance(node, ast.Attribute) and is_private(node.attr)
            if private and ast.unparse(node.value) in ours:
                offenders.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    fail_if(offenders)


def test_the_top_of_the_repository():
    """What git tracks there; a checkout may hold more."""
    call = ["git", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [PurePath(name) for name in listed.split("\0") if name]
    visible = [path for path in paths if not path.parts[0].startswith(".")]
    files = {path.name for path in visible if len(path.parts) == 1}
    directories = {path.parts[0] for path in visible if len(path.parts) > 1}
    fail_if(
        [f"{name}: a file without a place there" for name in files - FILES]
        + [f"{name}/: a directory without a place there" for name in directories - DIRECTORIES]
        + [f"{name}: is missing" for name in (FILES - files) | (DIRECTORIES - directories)]
    )


# --- imports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_never_run_in_a_circle(package):
    """Between modules as they are imported. A package's ``__init__`` is the sum of its modules."""
    paths = {dotted(path): path for path in modules(package)}
    graph = {
        name: {other for other in imports(path, set(paths)) if other in paths and other != name}
        for name, path in paths.items()
    }
    circle = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    fail_if([" <- ".join(circle)] if circle else [])


def test_exact_evaluations_import_no_losses():
    known = {dotted(path) for path in modules("mmcontrast")}
    offenders = []
    for path in modules("mmcontrast/exact"):
        for name in imports(path, known):
            parts = name.split(".")
            if parts[0] == "mmcontrast" and (len(parts) == 1 or parts[1] not in BELOW_EXACT):
                offenders.append(f"{path}: imports {name}")
    fail_if(offenders)


def core() -> list[Path]:
    """mmcontrast without its adapters and its suite."""
    return [path for path in modules("mmcontrast") if path.parts[1] not in BENEATH]


def test_the_core_imports_neither_adapters_nor_the_suite():
    known = {dotted(path) for path in modules("mmcontrast")}
    offenders = []
    for path in core():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in imported(node, path, known):
                    if name.startswith(tuple(f"mmcontrast.{part}" for part in BENEATH)):
                        offenders.append(f"{path}:{node.lineno}: imports {name}")
    fail_if(offenders)


def test_the_core_imports_torch_numpy_and_einops_alone():
    offenders = []
    for path in core():
        allowed = ALLOWED | ALLOWED_IN.get(path.as_posix(), set())
        for name in imports(path, set()):
            if name.split(".")[0] not in allowed:
                offenders.append(f"{path}: imports {name}")
    fail_if(offenders)


# --- the exceptions ------------------------------------------------------------------------------


def test_every_exception_is_needed():
    """An exception whose files are gone goes too."""
    paths = modules(*PACKAGES)
    unused = [
        pattern
        for pattern in TESTED_ELSEWHERE
        if not any(fnmatch(str(path), pattern) for path in paths)
    ]
    unused += [path for path in ALLOWED_IN if Path(path) not in paths]
    fail_if(unused)
