"""Mutation testing, tried on a toy package whose mutants have known ends."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.mutants import lines, results, worker
from tests.mutants.__main__ import arguments, project
from tests.mutants.operators import mutants
from tests.mutants.project import ROOT, Project
from tests.processes import python

pytestmark = pytest.mark.usefixtures("no_plugins")

NUMBERS = '''
def half(n):
    """Half of it.

    >>> half(4)
    2.0
    """
    return n / 2


def down(n):
    while n > 0:
        n -= 1
    return n


def more(n):
    return n + 1 if n > 0 else n


def far(n):
    return -n
'''
TESTS = """
import subprocess, sys, time
import pytest
from toy.numbers import down, more

SEEN = []
PROGRAM = "import os; from toy.numbers import far; os._exit(far(2) + 2)"


def test_down():
    assert down(3) == 0


@pytest.fixture(scope="module")
def made():
    return more(5)


def test_more(made):
    assert made == 6
    assert more(-5) == -5


def test_far():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_first():
    time.sleep(0.3)
    SEEN.append(more(5))


def test_second():
    assert SEEN and more(5)
"""
EQUIVALENT = """
[[mutant]]
path = "toy/numbers.py"
line = "while n > 0:"
old = "n > 0"
new = "(n >= 0)"
reason = "Not so: it stands here for one that is."

[[mutant]]
path = "toy/numbers.py"
line = "while n > 10:"
old = "n > 10"
new = "(n >= 10)"
reason = "There is no such line."
"""
FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--doctest-modules"\n',
    "toy/__init__.py": "",
    "toy/alone.py": "SIZE = 1\n",
    "toy/numbers.py": NUMBERS,
    "tests/toy/test_numbers.py": TESTS,
    "equivalent.toml": EQUIVALENT,
}


def written(root):
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def options(root):
    return ["-m", "tests.mutants", "--root", root, "--sources=toy", "--count=1000", "--patience=2"]


def results_of(root):
    return [json.loads(line) for line in results.lines(root / ".mutants" / "results.jsonl")]


def contents(root):
    paths = [p for p in root.rglob("*") if ".mutants" not in p.parts and p.is_file()]
    return {path: path.read_bytes() for path in paths}


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The package, after a map and a run that was killed, cut within a line, and begun again."""
    root = written(tmp_path_factory.mktemp("toy"))
    before = contents(root)
    done = python(*options(root), "map")
    assert done.returncode == 0, done.stderr
    program = subprocess.Popen(
        [sys.executable, *map(str, options(root)), "run"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while len(results_of(root)) < 3 and program.poll() is None:
        time.sleep(0.1)
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    first = results_of(root)
    with (root / ".mutants" / "results.jsonl").open("a") as file:
        file.write('{"key": "cut')
    done = python(*options(root), "run")
    assert done.returncode == 0, done.stderr
    assert "fails without a mutant: tests/toy/test_numbers.py::test_second" in done.stdout
    assert contents(root) == before
    assert results_of(root)[: len(first)] == first
    assert len(first) < len(results_of(root))
    found = {"tests": ("tests", "toy"), "equivalents": root / "equivalent.toml"}
    return Project(root, ["toy"], **found)


@pytest.mark.slow
def test_every_mutant_has_one_result_and_those_that_are_equivalent_none(toy):
    found = Counter(result["key"] for result in results_of(toy.root))
    every = [m for path in toy.files() for m in toy.all(path)]
    assert set(found.values()) == {1}
    assert len(found) == len(every) - 1
    assert [toy.is_equivalent(m) for m in every].count(True) == 1


@pytest.mark.slow
def test_what_became_of_them(toy):
    """Of n > 0, both neighbours: of half and far, all, by a doctest and in a program."""
    found = {(r["line"], r["old"], r["new"]): r for r in results_of(toy.root)}
    unnoticed = {key for key, r in found.items() if r["result"] == "survived"}
    line = "return n + 1 if n > 0 else n"
    assert unnoticed == {(line, "n > 0", "(n >= 0)"), (line, "0", "1")}
    assert found["SIZE = 1", "1", "2"]["result"] == "not run"
    assert {key for key, r in found.items() if r["result"] == "timeout"} == {
        ("n -= 1", "n -= 1", "n += 1")
    }
    killers = {(line, r["test"].split("::")[-1]) for (line, *_), r in found.items() if "test" in r}
    assert {("return n / 2", "toy.numbers.half"), ("return -n", "test_far")} <= killers
    assert (line, "test_second") not in killers


@pytest.mark.slow
def test_the_table_counts_them_by_file(toy):
    rows = results.counts(toy, toy.sample(1000, 0))
    assert rows["toy/alone.py"] == dict.fromkeys(results.KINDS, 0) | {"not run": 1}
    assert rows["toy/numbers.py"]["equivalent"] == 1
    assert results.total(rows)["survived"] == 2
    assert sum(results.total(rows).values()) == len(toy.sample(1000, 0))
    assert "| toy/alone.py | 0 | 0 | 0 | 1 | 0 | 0 % |" in results.text(rows)


@pytest.mark.slow
def test_a_new_test_kills_what_survived(toy):
    """Mapped anew, its file alone, because it changed; only what no test noticed is tried again."""
    file = toy.root / "tests" / "toy" / "test_numbers.py"
    file.write_text(TESTS + "\n\ndef test_none():\n    assert more(0) == 0 and more(1) == 2\n")
    done = python(*options(toy.root), "map")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "tests/toy/test_numbers.py"
    ]
    done = python(*options(toy.root), "run", "--again")
    assert "3 to try" in done.stdout
    kinds = Counter(r["result"] for r in results_of(toy.root))
    assert (kinds["survived"], kinds["not run"]) == (0, 1)


@pytest.mark.slow
def test_a_process_that_ends_without_a_mutant_too_has_killed_none(toy):
    conftest, stored = toy.root / "tests" / "conftest.py", toy.root / ".mutants" / "results.jsonl"
    conftest.write_text("import os\n\nos._exit(1)\n")
    stored.unlink()
    try:
        done = python(*options(toy.root), "run", "toy/numbers.py")
    finally:
        conftest.unlink()
    assert done.returncode != 0
    assert "RuntimeError: " in done.stderr
    assert "expected tests that can run" in done.stderr
    of_doctests = {"toy/numbers.py::toy.numbers.half"}  # for which there is no such file
    assert {result["test"] for result in results_of(toy.root)} <= of_doctests


def test_programs_that_tests_start_record_under_their_name(tmp_path):
    """Such as tests/forks.py runs, ranks among them, which end by os._exit."""
    (tmp_path / "rank.py").write_text("import os\nimport sys\n\nos._exit(len(sys.argv) - 2)\n")
    (tmp_path / "tests.json").write_text(
        '{"test_ranks": {"passed": true, "seconds": 1, "uses": []}}'
    )
    code = (
        "import os, pathlib; from tests.mutants.recording import SETTINGS, program\n"
        f"settings = SETTINGS.format(data={str(tmp_path / 'data')!r}, include='{tmp_path}/*')\n"
        f"path = {str(tmp_path / 'settings')!r}; pathlib.Path(path).write_text(settings)\n"
        "own = {'COVERAGE_PROCESS_START': path, 'MUTANTS_CONTEXT': 'test_ranks'}\n"
        f"program('rank', ['one'], own, {str(tmp_path / 'said')!r})\n"
    )
    done = python("-c", code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0, (tmp_path / "said").read_text()
    (tmp_path / "data.killed").write_bytes(b"SQLite format 3\0")  # while it was written
    found = lines.part(tmp_path, tmp_path, "rank.py")
    assert found["lines"] == {f"{tmp_path}/rank.py": {"test_ranks": "1-2,4"}}


# --- mutants -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["(a <= b)"]),
        ("a is None", ["(a is not None)"]),
        ("a @ b", []),
        ("a + b", ["(a - b)", "a", "b"]),
        ("a - b", ["(a + b)", "a"]),
        ("a and b", ["(a or b)", "a", "b"]),
        ("-a", ["a"]),
        ("~a", ["a"]),
        ("3", ["4"]),
        ("0.0", ["1.0"]),
        ("0.5", ["1.0"]),
        ("1e999", ["1e9"]),
        ("1e308", ["1e9"]),
        ("match a:\n case b.T: c\n case 3: d", ["4"]),
        ("True", ["False"]),
        ("x = a.sum(0)", ["1", "a.mean"]),
        ("x = a.sum(dim=-1)", ["1", "0", "2", "a.mean", "a.sum()"]),
        ("x = a.detach()", ["a"]),
        ("x = (a + b).clamp(c)", ["(a - b)", "a", "b", "(a + b)"]),
        ("x = a.T", ["a"]),
        ("x = min(a, b)", ["max"]),
        ("x = f(a, b=c)", ["f(a)"]),
        ("f(a)", ["pass"]),
        ("if a: raise b", ["not (a)", "False"]),
        ("if a: b", ["not (a)"]),
        ("x = a if b else c", ["(not (b))"]),
        ("def f(): return a", ["None"]),
        ("@g\ndef f(): a", ["(lambda undecorated: undecorated)"]),
        ("for a in b: break", ["continue"]),
        ("def f(a: 1 = b) -> 2: c", []),
        ("'''1'''\n__all__ = [1]\nif TYPE_CHECKING: a < b", []),
        ("raise a(1)", []),
        ("f'{1}'", []),
    ],
)
def test_what_can_be_changed(source, expected):
    found = mutants("x.py", source.encode())
    assert Counter(m.new for m in found) == Counter(expected)
    for mutant in found:
        compile(mutant.apply(source.encode()), "x.py", "exec")


def test_places_count_bytes_and_lines_those_of_the_statement():
    """Of what runs at import, a default too, those of the function or the file."""
    text = "τ = 8\ndef f(a=6):\n    g = (\n        α + 1,\n    )\n    if (a\n        < b):\n"
    source = (text + "        c = 2\n").encode()
    found = {m.new: m for m in mutants("x.py", source)}
    assert found["(α - 1)"].apply(source).decode().splitlines()[3] == "        (α - 1),"
    assert found["(α - 1)"].lines == (3, 5)
    assert found["(α - 1)"].at == 4
    assert found["(a <= b)"].lines == (6, 7)
    assert found["3"].lines == (8, 8)
    assert found["3"].line == "c = 2"
    assert found["7"].lines == (2, 8)
    assert found["9"].lines == (1, 8)


def test_a_mark_of_the_encoding_is_in_no_column():
    source = "\ufeffx = 1\ny = 2".encode()
    assert [m.apply(source).decode() for m in mutants("x.py", source)] == [
        *("\ufeffx = 2\ny = 2", "\ufeffx = 1\ny = 3")
    ]


def test_bytes_of_another_encoding_are_refused():
    source = "# -*- coding: latin-1 -*-\nx = 'é', 1\n".encode()
    with pytest.raises(ValueError, match=r"x\.py: expected UTF-8, got iso-8859-1"):
        mutants("x.py", source)


def test_every_mutant_of_a_file_is_python_and_another_text():
    path = "mmcontrast/infonce.py"
    source = (ROOT / path).read_bytes()
    found = mutants(path, source)
    assert len(found) > 20
    assert len({m.key(source) for m in found}) == len(found)
    for mutant in found:
        compile(mutant.apply(source), path, "exec")


def test_a_sample_is_spread_over_files_and_drawn_by_the_seed(tmp_path):
    project = Project(written(tmp_path), ["toy"])
    drawn = project.sample(6, 1)
    assert {m.path for m in drawn} == {"toy/alone.py", "toy/numbers.py"}
    assert 6 <= len(drawn) <= 8
    assert drawn == project.sample(6, 1)
    assert drawn != project.sample(6, 2)
    assert set(drawn) < set(project.sample(9, 1))
    alone = project.sample(5, 1, ["toy/numbers.py"])
    assert set(alone) <= set(drawn)


def test_what_is_wrong_on_purpose_is_left_out(tmp_path):
    root = written(tmp_path)
    files = list(Project(root, ["toy"], left_out=["toy/alone.py"]).files())
    assert files == ["toy/__init__.py", "toy/numbers.py"]
    every = list(project(arguments(["run"])).files())
    assert "mmcontrast/testing/suite.py" in every
    assert not any("broken" in path for path in every)


def test_every_equivalent_mutant_still_applies_and_has_its_reason(tmp_path):
    assert Project(ROOT).unknown_equivalents() == []
    assert all(entry["reason"].endswith(".") for entry in Project(ROOT).equivalent)
    root = written(tmp_path)
    toy = Project(root, ["toy"], equivalents=root / "equivalent.toml")
    assert [entry["line"] for entry in toy.unknown_equivalents()] == ["while n > 10:"]


def test_an_equivalent_mutant_is_one_unless_its_entry_says_more(tmp_path):
    """The same texts elsewhere may be a mistake that a test can notice."""
    root = written(tmp_path)
    (root / "toy" / "alone.py").write_text("SIZE = 1 + 1\n")
    entry = '[[mutant]]\npath = "toy/alone.py"\nline = "SIZE = 1 + 1"\nold = "1"\nnew = "2"\n'

    def equivalent(more):
        (root / "equivalent.toml").write_text(entry + more)
        toy = Project(root, ["toy"], equivalents=root / "equivalent.toml")
        found = [m.start for m in toy.all("toy/alone.py") if toy.is_equivalent(m)]
        return found, len(toy.unknown_equivalents())

    assert equivalent("") == ([7, 11], 1)
    assert equivalent("times = 2") == ([7, 11], 0)
    assert equivalent("only = 1") == ([11], 0)
    assert equivalent("only = 2") == ([], 1)


# --- the map -------------------------------------------------------------------------------------


def test_ranges():
    assert lines.ranges({7, 1, 3, 2}) == "1-3,7"
    assert [lines.meets("1-3,7", span) for span in [(4, 6), (3, 4), (7, 7), (8, 9), (0, 99)]] == [
        *(False, True, True, False, True)
    ]
    assert not lines.meets("", (1, 9))


def test_the_tests_of_a_mutant(tmp_path):
    """Of its lines, else of its function, else of its file; the file's own first, by speed."""
    (mutant, *_) = [m for m in mutants("toy/n.py", NUMBERS.encode()) if m.line == "n -= 1"]
    first, last = mutant.around
    own, other = "tests/toy/test_n.py", "tests/test_all.py"
    seconds = {f"{own}::a": 2.0, f"{own}::b": 1.0, f"{own}::c": 0.5, f"{other}::d": 0.1}
    found = {
        f"{own}::a": f"{mutant.lines[0]}",
        f"{own}::b": f"{first}-{last}",
        f"{other}::d": "1-99",
    }
    part = {"seconds": seconds, "lines": {"toy/n.py": found}}
    for file in (own, other, lines.OF_ALL[0], "map/part.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    def of(**changed):
        sources = {"toy/n.py": lines.digest(NUMBERS.encode())}
        (tmp_path / "map" / "part.json").write_text(
            json.dumps({**part, "sources": sources, **changed})
        )
        tests = lines.Map(tmp_path / "map", tmp_path).of(mutant, NUMBERS.encode())
        return [name[-1] for name in tests.own], [name[-1] for name in tests.others]

    assert of() == (["b", "a", "c"], ["d"])
    assert of(lines={"toy/n.py": {f"{own}::a": str(first)}}) == (["a", "c", "b"], [])
    assert of(lines={"toy/n.py": {f"{other}::d": "1"}}) == ([], ["d"])
    assert of(lines={"toy/n.py": {f"{other}::d": "1"}}, sources={}) == ([], ["d"])
    assert of(lines={}) == ([], [])
    law = {f"{lines.OF_ALL[0]}::e": 3.0}
    assert of(seconds=seconds | law) == (["b", "a", "c"], ["d"])
    at_import = {"toy/n.py": {f"{own}::b": f"{first}-{first}"}}
    assert of(seconds=seconds | law, lines=at_import) == (["b", "c", "a"], ["e"])
    mutant = dataclasses.replace(mutant, lines=mutant.around)  # runs at import
    assert of(seconds=seconds | law) == (["b", "a", "c"], ["d", "e"])


def test_tests_run_together_that_need_the_same_and_no_longer_than_allowed():
    project = Project(ROOT, with_peers=["tests/peers"])
    names = [f"tests/test_{i}.py::a" for i in range(worker.FILES_AT_ONCE + 1)]
    peers = ["tests/peers/test_x.py::a", "tests/peers/test_x.py::b"]
    assert worker.batches(project, [*names, *peers]) == [names[:-1], names[-1:], peers]
    tests = lines.Tests(names[:2], names[2:4], dict.fromkeys(names, 1.0))
    assert worker.within(tests, 3.0, ()) == names[:3]
    assert worker.within(tests, 0.0, ()) == names[:1]
    assert worker.within(tests, 9.0, {names[1], "tests/test_2.py"}) == [names[0], names[3]]


# --- what is stored ------------------------------------------------------------------------------


def test_the_stored_tables_are_of_files_that_exist():
    stored = json.loads(results.STORED.read_text())
    rows = [pair for sample in stored for pair in sample["rows"].items()]
    assert len(dict(rows)) == len(rows) > 0
    for path, row in rows:
        assert (ROOT / path).is_file()
        assert tuple(row) == results.KINDS
        assert sum(row.values()) > 0


def test_a_sample_takes_the_place_of_that_of_its_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "STORED", tmp_path / "stored.json")
    results.STORED.write_text("[]\n")
    for paths, seed in ((["b"], 1), (["a"], 2), (["b"], 3)):
        results.keep({"paths": paths, "seed": seed})
    found = json.loads(results.STORED.read_text())
    assert [(each["paths"], each["seed"]) for each in found] == [(["a"], 2), (["b"], 3)]


def test_paths_may_stand_after_options():
    found = arguments(["run", "--seed", "3", "mmcontrast/gaps.py"])
    assert (found.command, found.paths, found.seed) == ("run", ["mmcontrast/gaps.py"], 3)


def test_a_change_in_a_decorator_has_the_lines_from_there():
    """A lambda in it is run by other tests than the function is."""
    source = b"@law(\n    when=lambda t: not t,\n)\ndef f():\n    return 1\n"
    found = mutants("toy/laws.py", source)
    assert {m.lines for m in found if m.operator in ("dropped sign", "dropped decorator")} == {
        (1, 5)
    }
    assert {m.lines for m in found if m.operator == "removed return"} == {(5, 5)}
