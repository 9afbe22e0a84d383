"""Runs the tests with the oldest and the newest torch of the support window, and stores the counts.

``make test-versions`` runs both, and with ``ARGS="--only newest"`` one. Each has an environment of
its own, ``.venv/torch-oldest`` and ``.venv/torch-newest``: its torch, and what constraints.txt pins
otherwise. A part is run by hand: ``.venv/torch-newest/bin/python -m pytest tests/mmcontrast``.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.capabilities import CANNOT

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "benchmarks" / "stored" / "versions.json"

TORCH = ("2.12", "2.13", "2.14", "2.15")
"""The support window: the last four minor versions. pyproject.toml asks for the first at least."""

PYTHON = ("3.11", "3.12", "3.13", "3.14")

ENDS = {
    "oldest": (f"torch=={TORCH[0]}.0", PYTHON),
    # A range, because an index or a setting of pip may not offer the last one.
    "newest": (f"torch>={TORCH[0]},<={TORCH[-1]}.99", PYTHON[::-1]),
}
"""What pip is asked for, and the Pythons in the order in which they are looked for."""

ABOUT = """
import importlib.metadata, json, platform, torch
names = [d.metadata["Name"] for d in importlib.metadata.distributions()]
print(json.dumps([names, platform.python_version(), torch.__version__]))
"""


# --- environments --------------------------------------------------------------------------------


def interpreters(versions: Iterable[str]) -> Iterator[str]:
    """Those of this machine that start, in the order of the versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        found = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")]
        for path in filter(None, found):
            # A name that pyenv puts on the PATH may only say which versions would have it.
            if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
                yield str(path)


def about(python: Path) -> tuple[list[str], str, str]:
    """What an environment has: the names of all distributions, its Python, its torch."""
    said = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True, check=True).stdout
    names, version, torch = json.loads(said)
    return names, version, torch


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def without(pins: str, names: Iterable[str]) -> str:
    """A file of constraints without those of some distributions."""
    left_out = {canonical(name) for name in names}
    lines = pins.splitlines(keepends=True)
    return "".join(line for line in lines if canonical(line.split("==")[0]) not in left_out)


def environment(end: str) -> Path:
    """Make it where it is not there, bring it up to date, and return its Python."""
    asked, versions = ENDS[end]
    folder = ROOT / ".venv" / f"torch-{end}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([next(interpreters(versions)), "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    # torch first, with what it asks for: an older one may refuse what is pinned for another.
    subprocess.run([*pip, "--upgrade", asked], check=True)
    with tempfile.TemporaryDirectory() as temporary:
        pins = Path(temporary, "constraints.txt")
        pins.write_text(without((ROOT / "constraints.txt").read_text(), about(python)[0]))
        subprocess.run([*pip, "--constraint", pins, "--editable", f"{ROOT}[dev]"], check=True)
    return python


# --- results -------------------------------------------------------------------------------------


def counts(report: Path) -> dict[str, int]:
    """Of a report that pytest wrote as XML."""
    found = {"passed": 0, "skipped": 0, "failed": 0}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        bad, left = kinds & {"failure", "error"}, "skipped" in kinds
        found["failed" if bad else "skipped" if left else "passed"] += 1
    return found


def lacks(report: Path) -> list[str]:
    """What tests were skipped for because the torch at hand cannot do it."""
    said = [case.get("message", "") for case in ElementTree.parse(report).iter("skipped")]
    return sorted({m.removeprefix(CANNOT) for m in said if m.startswith(CANNOT)})


def tested(end: str, ignored: Iterable[str], marked: str) -> dict[str, Any]:
    """Run the tests with one end: its versions, the date, the counts, and what it cannot do."""
    python = environment(end)
    _, version, torch = about(python)
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary, "report.xml")
        options = ["-n", "2", f"--junitxml={report}", *(f"--ignore={path}" for path in ignored)]
        options += ["-m", marked] if marked else []
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *options]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        found = {**counts(report), "cannot": lacks(report)}
    return {
        "torch": torch,
        "python": version,
        "date": str(datetime.date.today()),
        "tests": marked or "all",
        **found,
    }


def minor(version: str) -> str:
    """``2.12.0+cpu`` -> ``2.12``"""
    return ".".join(version.split(".")[:2])


def stored() -> list[dict]:
    return json.loads(FILE.read_text())


def store(row: dict[str, Any]) -> None:
    """In the place of an older row of the same version of torch; a line a row."""
    rows = {old["torch"]: old for old in stored() if minor(old["torch"]) in TORCH}
    rows[row["torch"]] = row
    ordered = sorted(rows.values(), key=lambda r: [int(x) for x in minor(r["torch"]).split(".")])
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, ordered)) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.versions", description=__doc__)
    parser.add_argument("--only", choices=ENDS, help="one of both")
    parser.add_argument("--ignore", action="append", default=[], help="a path that pytest ignores")
    parser.add_argument("-m", default="", dest="marked", help='a part of the tests, "not slow"')
    options = parser.parse_args()
    rows = []
    try:
        for end in ENDS if options.only is None else [options.only]:
            rows.append(tested(end, options.ignore, options.marked))
            sys.stdout.write(f"{end}: {rows[-1]}\n")
    finally:  # at the end, for the tests compare the site with what is stored
        for row in rows:
            store(row)
    sys.exit(any(row["failed"] for row in rows))


if __name__ == "__main__":
    main()
