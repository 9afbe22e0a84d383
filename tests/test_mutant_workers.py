"""What must not count as a test that notices a mutant: a run of tests with a history, say."""

import json
from pathlib import Path

import pytest

from tests.mutants import driver, lines, results, worker
from tests.mutants.child import ENDED
from tests.mutants.operators import mutants
from tests.mutants.project import Project
from tests.processes import python

pytestmark = pytest.mark.usefixtures("no_plugins")

SOURCE = """
import os
from pathlib import Path


def f(n):
    return n + 1


def g(n):
    return n * 2


def writes(n):
    if n > 5:
        Path("toy", "other.py").write_text("VALUE = 1 / 0")
        Path("toy", "new.py").write_text("")


def ends(n):
    if n > 6:
        os.kill(os.getppid(), 9)
"""
TESTS = """
import os, time
from pathlib import Path
import pytest
from toy import n

SEEN = []


def test_first():
    SEEN.append(1)


def test_second():
    assert SEEN
    assert n.f(1) == 2


@pytest.fixture(scope="module")
def slow():
    time.sleep(2.5)


def test_slow(slow): pass


def test_quick(slow): pass


def test_hangs():
    time.sleep(60)


def test_writes():
    n.writes(1)
    assert not Path("toy", "new.py").exists()


def test_other():
    from toy.other import VALUE
    assert not Path("toy", "new.py").exists()


def test_ends():
    n.ends(1)


def test_f():
    assert n.f(1) == 2
"""
FILES = {
    "toy/__init__.py": "",
    "toy/n.py": SOURCE,
    "toy/other.py": "VALUE = 1",
    "tests/test_n.py": TESTS,
}
FILE = "tests/test_n.py"
SLOW = {f"{FILE}::test_slow": 2.5}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".mutants").mkdir()
    return Project(tmp_path, ["toy"], equivalents=tmp_path / "none", patience=4)


@pytest.fixture
def tried(project):
    """Tries a change of the source against some tests, in their order."""
    made = worker.Worker(project, 0)

    def try_one(line, new, *names):
        source = project.source("toy/n.py")
        (mutant,) = [m for m in mutants("toy/n.py", source) if (m.line, m.new) == (line, new)]
        chosen = [f"{FILE}::{name}" for name in names]
        tests = lines.Tests(
            chosen, [], dict.fromkeys(chosen, 0.01) | (SLOW if "test_quick" in names else {})
        )
        result = made.try_mutant(mutant, source, tests, 10.0)
        return result["result"], result.get("test", "").removeprefix(f"{FILE}::")

    yield try_one
    made.end()


F, G = "return n + 1", "return n * 2"


def test_a_test_that_others_must_precede_kills_nothing_without_them(tried):
    assert tried(F, "(n - 1)", "test_first", "test_second") == ("killed", "test_second")
    assert tried(G, "(n / 2)", "test_second")[0] == "not run"


def test_the_setup_that_a_files_tests_share_is_no_endless_loop(tried):
    assert tried(G, "(n / 2)", "test_quick") == ("survived", "")


def test_a_test_that_takes_too_long_without_a_mutant_too_does_not_count(tried):
    assert tried(G, "(n / 2)", "test_first", "test_hangs") == ("survived", "")


def test_what_a_mutant_wrote_is_not_there_for_the_next(tried):
    assert tried(F, "(n - 1)", "test_other", "test_f") == ("killed", "test_f")
    assert tried("if n > 5:", "not (n > 5)", "test_writes") == ("killed", "test_writes")
    assert tried(G, "(n / 2)", "test_other", "test_f") == ("survived", "")


def test_a_mutant_that_ends_the_process_of_the_tests_is_one_of_many(tried):
    assert tried("if n > 6:", "not (n > 6)", "test_ends") == ("killed", ENDED)
    assert tried(G, "(n / 2)", "test_ends", "test_f") == ("survived", "")


def test_who_edits_the_source_meanwhile_does_no_harm(project):
    """It is the copy that is tested; a change at a place of the old text would be no Python."""
    path = project.root / "toy" / "n.py"
    test = f"{FILE}::test_f"
    part = {"seconds": {test: 0.1}, "sources": {}, "lines": {"toy/n.py": {test: "1-99"}}}
    worker.map_part(project, FILE).parent.mkdir()
    worker.map_part(project, FILE).write_text(json.dumps(part))

    def sample():
        yield next(m for m in project.all("toy/n.py") if m.new == "(n / 2)")
        path.write_text("\n" * 7 + SOURCE)

    driver.run(project, sample(), 1, 10.0)
    assert [r["result"] for r in results.results(project).values()] == ["survived"]


def test_a_part_of_the_map_is_written_whole_or_not_at_all(project, monkeypatch):
    """Else whoever was cut there could not go on."""
    made, write = worker.Worker(project, 0), Path.write_text

    def cut(path, text):
        write(path, text[: len(text) // 2])
        raise OSError("no space is left")

    monkeypatch.setattr(Path, "write_text", cut)
    (project.root / ".mutants" / "tree-0" / FILE).write_bytes(b"def test_it(): pass")
    try:
        with pytest.raises(OSError, match="no space"):
            made.record(FILE, 30)
    finally:
        made.end()
    assert not worker.map_part(project, FILE).exists()


def test_another_run_forgets_nothing_while_one_is_at_work(project):
    stored = results.stored_in(project)
    stored.write_text('{"key": "a", "result": "survived"}\n')
    options = ["-m", "tests.mutants", "--root", project.root, "--sources=toy"]
    with driver.alone(project):
        done = python(*options, "run", "--again")
    assert "BlockingIOError" in done.stderr
    assert stored.read_text().count("survived") == 1


def test_a_test_that_is_no_longer_there_kills_nothing(tmp_path):
    """pytest does not start where it is given a file that is gone."""
    part = {"file": "", "sources": {}, "failed": []}
    folder = tmp_path / "map"
    folder.mkdir()
    for name in ("tests/test_here.py", "tests/test_gone.py"):
        test = f"{name}::test_it"
        text = {**part, "seconds": {test: 1.0}, "lines": {"toy/n.py": {test: "1-99"}}}
        (folder / f"{name.replace('/', '.')}.json").write_text(json.dumps(text))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_here.py").write_text("")
    (first, *_) = mutants("toy/n.py", SOURCE.encode())
    found = lines.Map(folder, tmp_path).of(first, SOURCE.encode())
    assert found.others == ["tests/test_here.py::test_it"]


def test_no_random_example_decides(project, monkeypatch):
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "nightly")
    assert project.environment(project.root, peers=False)["HYPOTHESIS_PROFILE"] == "ci"


def test_no_test_waits_for_a_hub(project, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert project.environment(project.root, peers=False)["HF_HUB_OFFLINE"] == "1"
