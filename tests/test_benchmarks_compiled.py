"""The benchmarks of compiled losses, and of ours beside another checkout's, do what they say."""

import os
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.benchmarks import against, cases, compiled, measure
from tests.benchmarks.cases import OURS, SYMMETRIC, Case

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiled, "SIZES", (5, 6, 9, 16))
    monkeypatch.setattr(measure, "TRACED", (6, 8))
    torch.compiler.reset()


def of(loss):
    return [case for case in compiled.CASES if case.loss == loss.name]


@pytest.mark.parametrize("case", of(SYMMETRIC), ids=lambda case: case.name)
def test_a_compiled_case_has_its_program_before_it_is_measured(case):
    counters.clear()
    call = measure.ready(case, SYMMETRIC, 4)
    assert counters["stats"]["unique_graphs"] == 2
    inputs = SYMMETRIC.inputs(20, 4)
    torch.testing.assert_close(measure.run(SYMMETRIC, call, inputs), cases.symmetric(inputs))
    assert counters["stats"]["unique_graphs"] == 2


def test_each_compiled_case_stands_beside_its_eager_one():
    eager = {(case.loss, case.name) for case in cases.CASES}
    assert {(x.loss, x.name.removesuffix(", compiled")) for x in compiled.CASES} <= eager


# --- compiling -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_fork")
def test_compilations_are_timed_and_counted():
    found = compiled.compilations(of(SYMMETRIC) * 2, rounds=1)
    assert [r["case"] for r in found] == [case.name for case in of(SYMMETRIC)]
    for r in found:
        assert r["s"] > 0
        assert r["compilations"] == 2


def test_what_is_not_compiled_takes_no_compilation():
    assert compiled.compilations(cases.CASES, rounds=1) == []


def program(make):
    return Case(SYMMETRIC.name, "some", make, compiled=True)


@pytest.mark.usefixtures("a_fork")
def test_a_program_for_each_size_is_counted():
    def make():
        return torch.compile(cases.torch_symmetric, backend="eager", dynamic=False)

    (found,) = compiled.compilations([program(make)], rounds=1)
    assert found["compilations"] == 4


@pytest.mark.usefixtures("a_fork")
def test_no_compilation_finds_what_another_left():
    def make():
        file = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "left"
        assert not file.exists()
        file.touch()
        return cases.torch_symmetric

    (found,) = compiled.compilations([program(make)], rounds=3)
    assert found["s"] is not None
    assert found["compilations"] == 0


@pytest.mark.usefixtures("a_fork")
def test_a_compilation_that_fails_has_no_figures():
    (found,) = compiled.compilations([program(lambda: os._exit(1))], rounds=1)
    assert found["s"] is None
    assert found["compilations"] is None


# --- against another checkout --------------------------------------------------------------------


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A package that has one of the losses."""
    monkeypatch.setattr(against, "PROCESSES", 1)
    (tmp_path / "mmcontrast").mkdir()
    (tmp_path / "mmcontrast" / "__init__.py").write_text(
        "def symmetric_info_nce(x, y, **options):\n    return (x * y).sum()\n"
    )
    return tmp_path


def test_cases_are_compared_where_both_have_them(older):
    """Each with the package of its folder: ours has the loss that the older one lacks."""
    chosen = [c for c in cases.CASES if c.name == OURS and "InfoNCE" in c.loss]
    wanted = against.ours([(chosen + compiled.CASES, 16, 4)])
    assert [case for case, *_ in wanted] == chosen
    (found,), (left_out,) = against.compared(older, wanted, rounds=2)
    assert (found["loss"], found["case"], found["n"], found["d"]) == (SYMMETRIC.name, OURS, 16, 4)
    low, high = found["quartiles"]
    assert 0 < low <= found["ms"] / found["before_ms"] <= high
    assert "one-way InfoNCE, mmcontrast, N=16, d=4: AttributeError" in left_out


def test_a_process_that_ended_is_an_error(older):
    (older / "mmcontrast" / "__init__.py").write_text("raise SystemExit(0)\n")
    with against.Worker(older) as worker, pytest.raises(against.Other, match="ended"):
        worker.ask("round")
