"""The built sdist and wheel: what is in them, what they ask for, and how the wheel does alone."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmcontrast
from reference_models.__main__ import NEEDS
from tests.readme.citing import version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mmcontrast", "reference_models")
NAME = f"mmcontrast-{version()}"
PAPERS = ("hycon", "tecafn", "mcl_mcf", "mfon", "cormult")
PACKAGED = {
    "mmcontrast/citations.bib",
    "mmcontrast/py.typed",
    *(f"reference_models/{x}/published.json" for x in PAPERS),
}
STRANGERS = [
    *("mmcontrast/corpus.pkl", "mmcontrast/__pycache__/terms.cpython-311.pyc", "top.npz"),
    *("reference_models/data/features.json", "tests/features.npz", "notebooks/labels.csv"),
    *("runs/model.safetensors", "runs/notes.py", "build/old.py", ".hypothesis/examples/1"),
]
DOCTESTS = """
import doctest, importlib, pkgutil, mmcontrast
skipped = "mmcontrast.interop", "mmcontrast.testing", "mmcontrast.exact.kernels.triton_tiles"
tried = 0
for module in pkgutil.walk_packages(mmcontrast.__path__, "mmcontrast."):
    if not module.name.startswith(skipped):
        found = doctest.testmod(importlib.import_module(module.name))
        assert not found.failed, module.name
        tried += found.attempted
print(mmcontrast.__file__, tried, mmcontrast.__version__)
try:
    importlib.import_module("mmcontrast.testing.__main__")
except ModuleNotFoundError as error:
    print(error)
"""
# Of torch, what says what a tensor and a module are. Whatever is an Any for want of the rest is an
# error in the user's program, and mypy takes half the time.
KEPT = [
    *("torch", "torch.types", "torch._C.*", "torch._tensor", "torch.nn.*", "torch.autograd"),
    *("torch.autograd.grad_mode", "torch.utils._contextlib"),
    *("torch.distributed", "torch.distributed.distributed_c10d"),
]
MYPY = f"""
[mypy]
[mypy-torch.*]
follow_imports = skip
[mypy-{",".join(KEPT)}]
follow_imports = normal
"""


def call(*command, folder, code=0):
    """Stdout and stderr of a command that shall end with ``code``; no other folder has a say."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def build(target, *, source, to):
    """What the build backend makes, from what this environment has: nothing is fetched."""
    call(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to), folder=source)
    (path,) = to.iterdir()
    return path


def unpacked(path, to):
    with tarfile.open(path) as archive:
        archive.extractall(to, filter="data")
    return to / NAME


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def code(*folders):
    return {path.relative_to(ROOT).as_posix() for x in folders for path in (ROOT / x).rglob("*.py")}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The folder that the sdist unpacks to."""
    to = tmp_path_factory.mktemp("sdist")
    return unpacked(build("sdist", source=ROOT, to=to), tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def littered(sdist, tmp_path_factory):
    """A checkout in which other things lie, too."""
    folder = shutil.copytree(sdist, tmp_path_factory.mktemp("checkout") / "littered")
    for name in STRANGERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(littered, tmp_path_factory):
    """The folder that the wheel unpacks to."""
    path = build("wheel", source=littered, to=tmp_path_factory.mktemp("wheel"))
    to = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(path).extractall(to)
    return to


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_string((wheel / f"{NAME}.dist-info/METADATA").read_text())


def requirements(names, extra=""):
    """Those of ``names`` that hold on this machine, by their names."""
    every = [Requirement(text) for text in names]
    held = [r for r in every if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {r.name.lower() for r in held}


@pytest.fixture(scope="module")
def python(wheel, metadata, tmp_path_factory):
    """An environment with the wheel, torch, numpy, einops and what these require, as links."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(wheel, site, dirs_exist_ok=True)
    names, linked = list(requirements(metadata.get_all("Requires-Dist"))), set()
    while names:
        name = names.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        linked.add(name)
        for top in {path.parts[0] for path in found.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
        names += requirements(found.requires or []) - linked
    return folder / "bin" / "python"


# --- what is in them -----------------------------------------------------------------------------


def test_the_sdist_holds_the_code_the_tests_and_what_they_need(sdist):
    top = {"README.md", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml"}
    made = {"PKG-INFO", ".gitignore"}
    notebooks = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    pictures = {f"tests/readme/idea-{theme}.svg" for theme in ("light", "dark")}
    stored = {f"tests/benchmarks/stored/speed-{theme}.svg" for theme in ("light", "dark")}
    site = {
        path.relative_to(ROOT).as_posix()
        for kind in ("py", "md", "css", "svg")
        for path in (ROOT / "notebooks" / "site").rglob(f"*.{kind}")
    }
    measured = {
        path.relative_to(ROOT).as_posix()
        for kind in ("missing.json", "kept/*.jsonl")
        for path in (ROOT / "tests" / "readme").glob(kind)
    }
    shown = (
        site
        | measured
        | {"tests/mutants/equivalent.toml", "tests/mutants/stored.json"}
        | pictures
        | stored
        | {f"tests/benchmarks/stored/{x}.json" for x in ("bench", "versions")}
    )
    assert files(sdist) == code(*PACKAGES, "tests") | PACKAGED | notebooks | shown | top | made


def test_an_sdist_of_a_littered_checkout_is_the_same(sdist, littered, tmp_path):
    again = build("sdist", source=littered, to=tmp_path / "made")
    assert files(unpacked(again, tmp_path)) == files(sdist)


def test_the_wheel_of_a_littered_checkout_holds_the_two_packages_alone(wheel):
    made = {f"{NAME}.dist-info/{x}" for x in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    assert files(wheel) == code(*PACKAGES) | PACKAGED | made


def test_nothing_in_them_is_large(sdist, wheel):
    sizes = [(path.stat().st_size, path) for x in (sdist, wheel) for path in x.rglob("*")]
    assert max(sizes)[0] < 150_000


# --- what they say and ask for -------------------------------------------------------------------


def test_the_metadata_is_the_projects(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("mmcontrast", version())
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


def test_links_of_the_readme_lead_into_the_sdist(sdist):
    links = re.findall(r"\]\(([^)#]+)\)", (sdist / "README.md").read_text())
    inside = [link for link in links if "://" not in link]
    assert inside
    assert [link for link in inside if not (sdist / link).exists()] == []


def imported(folder):
    """The packages that modules below a folder import anywhere, the standard library's left out."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - set(PACKAGES)


def test_extras_are_what_is_imported(wheel, metadata):
    every = metadata.get_all("Requires-Dist")
    core = requirements(every)
    assert core == {"torch", "numpy", "einops"}
    extra = {x: requirements(every, x) - core for x in metadata.get_all("Provides-Extra")}
    assert set(NEEDS) == imported(wheel / "reference_models") - core
    assert extra["reference"] == set(NEEDS) - {"sklearn"} | {"scikit-learn"}
    assert extra["testing"] == imported(wheel / "mmcontrast/testing") - core - {"pytest"}
    assert extra["notebooks"] > extra["reference"] | extra["testing"]
    assert extra["dev"] > extra["notebooks"]


# --- the wheel, alone ----------------------------------------------------------------------------


@pytest.mark.slow
def test_examples_run_where_only_the_requirements_are(python, tmp_path):
    """And the command of the suite says there what it needs."""
    said, _ = call(python, "-I", "-W", "error", "-c", DOCTESTS, folder=tmp_path)
    first, without_hypothesis = said.splitlines()
    place, tried, found = first.split()
    assert found == version()
    assert Path(place).is_relative_to(python.parents[1])
    assert int(tried) > len(mmcontrast.__all__)
    expected = "mmcontrast.testing needs hypothesis: pip install 'mmcontrast[testing]'"
    assert without_hypothesis == expected


@pytest.mark.slow
def test_without_the_extra_the_command_says_what_to_install(python, tmp_path):
    call(python, "-I", "-m", "reference_models", "--help", folder=tmp_path)
    _, error = call(python, "-I", "-m", "reference_models", "list", folder=tmp_path, code=2)
    # filelock is torch's own requirement, too.
    absent = ", ".join(name for name in NEEDS if name != "filelock")
    expected = f"needs {absent}: pip install 'mmcontrast[reference]'"
    assert error == f"python -m reference_models: {expected}\n"


@pytest.mark.slow
def test_a_users_program_passes_mypy_strict(python, tmp_path):
    """Against the wheel as installed: without py.typed in it mypy would not look inside."""
    shutil.copy(ROOT / "tests" / "typed_program.py", tmp_path)
    (tmp_path / "mypy.ini").write_text(MYPY)
    strict = ["--strict", "--disallow-any-expr", "--config-file=mypy.ini", "--cache-dir=cache"]
    mypy = [sys.executable, "-m", "mypy", *strict, "--python-executable", python]
    said, _ = call(*mypy, "typed_program.py", folder=tmp_path)
    assert said == "Success: no issues found in 1 source file\n"
