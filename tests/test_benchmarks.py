"""The benchmarks run and write what they say; how fast anything is, is not asked here."""

import contextlib
import io
import json
import os
import warnings

import pytest
import torch

from tests.benchmarks import cases, measure, rank_contrast, report, targets
from tests.benchmarks.__main__ import LOSSES, arguments, available, chosen, fits, main, planned
from tests.benchmarks.cases import OURS, OURS_COMPILED, SYMMETRIC, TORCH, TORCH_COMPILED, Case
from tests.capabilities import autograd_in_a_fork, need
from tests.oracles import ranked


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The command's folder and what it printed, at sizes for the paths of small and large N."""
    need(autograd_in_a_fork, anew=True)
    folder = tmp_path_factory.mktemp("bench") / "new"
    sizes = ["--sizes", "24,600", "--dims", "8", "--hycon", "24,256", "--ranked", "24,40"]
    sizes += ["--retrieval", "64", "--corpus", "300", "--own", "24", "--joint", "24,40"]
    printed, threads = io.StringIO(), torch.get_num_threads()
    with (
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
    ):
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        patch.setattr(measure, "SHORTEST", 0.0)  # one call a round is enough to see that it works
        code = main([*sizes, "--rounds", "1", "--no-compiled", "--out", str(folder)])
    torch.set_num_threads(threads)
    assert code == 0
    return folder, printed.getvalue()


@pytest.fixture
def results(bench):
    return json.loads((bench[0] / "bench.json").read_text())["results"]


def test_every_loss_is_measured_at_every_size(results):
    ours = {(r["loss"], r["n"]) for r in results if r["case"] == OURS}
    sizes = {loss.name: (24, 600) for loss in cases.LOSSES}
    sizes |= {cases.HYCON.name: (24, 256), cases.RANKED.name: (24, 40)}
    sizes |= {cases.OWN_NEGATIVES.name: (24,), cases.CORPUS.name: (300,)}
    sizes |= {cases.RETRIEVAL.name: (64,)}
    sizes |= {cases.SHUFFLED.name: (24, 40), cases.VOLUMES.name: (24, 40)}
    assert ours == {(name, n) for name, some in sizes.items() for n in some}
    for loss in cases.LOSSES:
        assert len({r["case"] for r in results if r["loss"] == loss.name}) > 1 or (
            loss is cases.NT_XENT  # which no case of plain torch stands beside
        )


def test_all_cases_of_a_loss_compute_the_same_number(results):
    for r in results:
        assert r["apart"] < 1e-4, r


def test_results_have_time_floor_and_memory(results):
    for r in results:
        assert r["ms"] > 0
        assert r["MB"] >= 0
        assert (r["floor_ms"] is None) == (LOSSES[r["loss"]].products == 0)


def test_the_json_says_what_it_was_measured_on(bench):
    machine = json.loads((bench[0] / "bench.json").read_text())["machine"]
    assert set(machine) >= {"processor", "cores", "torch", "threads", "date"}
    assert machine["torch"] == torch.__version__


def test_tables_are_printed_and_written(bench, results):
    folder, printed = bench
    written = (folder / "bench.md").read_text()
    for r in results:
        for text in printed, written:
            assert f"### {r['loss']}, d={r['d']}" in text
            assert f"| {r['case']} " in text
    assert "C11" in printed


def test_plots_are_written(bench):
    for loss in cases.LOSSES:
        assert "</svg>" in (bench[0] / f"{loss.name.replace(' ', '-')}.svg").read_text()


def test_help_says_what_is_measured(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        arguments(["--help"])
    assert "--fast" in capsys.readouterr().out


def test_the_loop_over_columns_is_rank_n_contrast():
    (x,), scores = cases.scored(9, 3)
    inputs = cases.Inputs((x.detach().double(),), scores.double())
    truth = ranked.rank_n_contrast(inputs.rows[0].numpy(), inputs.labels.numpy())
    inputs.rows[0].requires_grad_()
    value = rank_contrast.column_loop(inputs)
    assert value.item() == pytest.approx(truth, rel=1e-12)
    expected = torch.autograd.grad(rank_contrast.ours(inputs), inputs.rows)[0]
    torch.testing.assert_close(torch.autograd.grad(value, inputs.rows)[0], expected)


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (100, 100), (7, 5)])
def test_floor_computes_the_three_products(rows, columns, generator):
    a, b = (torch.randn(7, 5, generator=generator) for _ in range(2))
    call = measure.floor(a, b, 3, rows, columns)
    for _ in range(2):  # the second call starts anew
        to_a, to_b = call()
        torch.testing.assert_close(to_a, a @ b.T @ b)
        torch.testing.assert_close(to_b, b @ a.T @ a)


def test_a_short_call_is_made_warm_and_then_repeated_up_to_the_shortest_round(monkeypatch):
    now, took = [0.0], []

    def call():  # the first one, and one after others have run, take longer
        took.append({0: 0.050, 1: 0.009}.get(len(took), 0.003))
        now[0] += took[-1]

    monkeypatch.setattr(measure.time, "process_time", lambda: now[0])
    clock = measure.Clock(call)
    clock.round()
    assert len(took) == 5  # three, of 9 ms, fill 20
    assert clock.milliseconds() == pytest.approx(3)


def test_a_long_call_is_taken_once(monkeypatch):
    monkeypatch.setattr(measure, "LONGEST", 0)
    calls = []
    (clock,) = measure.interleaved([lambda: calls.append(sum(range(1000)))], rounds=3)
    assert len(calls) == len(clock.rounds) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("a_fork")
class TestPeakMemory:
    def peak(self, call):
        case = Case(SYMMETRIC.name, "some", lambda: call)
        return measure.peak_memory(case, SYMMETRIC, 600, 8)

    @pytest.mark.parametrize("megabytes", [20, 80])
    def test_is_what_the_call_held_and_gave_back(self, megabytes):
        def call(inputs):
            torch.ones(megabytes * 2**18)
            return inputs.rows[0].sum() + inputs.rows[1].sum()

        assert self.peak(call) == pytest.approx(megabytes, abs=2)

    def test_does_not_count_what_was_given_back_before(self):
        """60 MB in pieces between others that stay, 6 MB, and then 60 MB in one piece."""

        def call(inputs):
            pieces = [(torch.ones(25_000), torch.ones(2_500)) for _ in range(600)]
            small = [z for _, z in pieces]
            del pieces
            torch.ones(60 * 2**18)
            return small[0][0] + inputs.rows[0].sum() + inputs.rows[1].sum()

        assert self.peak(call) == pytest.approx(66, abs=4)

    def test_of_a_process_that_ended_is_none(self):
        assert self.peak(lambda inputs: os._exit(1)) is None


def test_cases_are_chosen_by_part_of_their_names():
    names = {(x.loss, x.name) for x in chosen("SupCon: mm,lightly")}
    assert ("SupCon", OURS) in names
    assert ("NT-Xent", "lightly") in names
    assert {loss for loss, _ in names} == {"SupCon", "NT-Xent"}


def test_a_library_that_is_missing_is_named_and_left_out(capsys):
    def missing():
        raise ImportError("no such thing")

    here = Case("SupCon", "here", lambda: None)
    assert available([here, Case("SupCon", "gone", missing)]) == [here]
    assert "gone (no such thing)" in capsys.readouterr().out


def test_cases_that_would_not_fit_are_left_out():
    case = Case("SupCon", "some", lambda: None, matrices=2, largest=40_000)
    assert fits(case, 2**14, memory=2)
    assert not fits(case, 2**14 + 1, memory=2)
    assert not fits(case, 40_001, memory=1000)


def test_fast_leaves_what_is_said():
    options = arguments(["--fast", "--sizes", "8,9"])
    assert options.sizes == [8, 9]
    assert options.rounds == 1
    assert arguments([]).rounds > 2


def test_the_largest_sizes_are_for_ours_eager_and_compiled():
    small = ["--sizes", "8,9", "--dims", "4", "--hycon", "", "--ranked", "", "--own", ""]
    small += ["--corpus", ""]
    small += ["--joint", "", "--retrieval", ""]
    *_, (group, n, d) = planned(arguments([*small, "--large", "9,10"]))
    assert (n, d) == (10, 4)
    assert {case.name for case in group} == {OURS, OURS_COMPILED}
    without = planned(arguments([*small, "--large", "9,10", "--no-compiled"]))
    assert [n for group, n, _ in without if group] == [8, 9]
    assert not any(case.compiled for group, *_ in without for case in group)


def result(case, n, d, **figures):
    return {"loss": SYMMETRIC.name, "case": case, "n": n, "d": d, "apart": 0.0} | figures


def test_targets_are_judged_by_ratios_where_they_are_meant():
    found = [
        result(OURS, 4096, 64, ms=14.0, floor_ms=10.0, MB=9.0),
        result("open_clip", 4096, 64, ms=50.0, floor_ms=10.0, MB=300.0),
        result(OURS, 256, 64, ms=3.0, floor_ms=1.0, MB=1.0),
        result(TORCH, 256, 64, ms=3.0, floor_ms=1.0, MB=None),
    ]
    verdicts = targets.verdicts(found)
    judged = {(v.target.name, v.n, v.target.against): (v.ratio, v.met) for v in verdicts}
    assert judged == {
        ("C1", 4096, targets.FLOOR): (1.4, True),
        ("C2", 4096, "open_clip"): (0.28, False),
        ("C3", 4096, targets.ROWS): (9 / 8, False),
        ("C11", 256, TORCH): (1.0, True),
    }
    assert "NOT MET" in verdicts[1].line()
    assert "14 ms / 50 of open_clip = 0.28, at most 0.27" in verdicts[1].line()


def test_absolute_targets():
    (time, memory) = targets.verdicts([result(OURS, 65536, 64, ms=7.0, floor_ms=5.0, MB=70.0)])[-2:]
    assert (time.ratio, time.met) == (1.4, True)
    assert (memory.ratio, memory.met) == (70.0, False)
    assert "70 MB, at most 64" in memory.line()


def test_compiled_cases_are_judged_by_eager_and_by_plain_ones():
    found = {
        "results": [
            result(OURS, 4096, 64, ms=10.0, MB=3.0),
            result(OURS_COMPILED, 4096, 64, ms=11.0, MB=9.0),
            result(TORCH_COMPILED, 4096, 64, ms=20.0, MB=9.0),
            result(OURS, 16384, 512, ms=10.0, MB=3.0),
            result(OURS_COMPILED, 16384, 512, ms=10.0, MB=3.6),
        ],
        "compilations": [
            result(OURS_COMPILED, 4096, 64, s=5.0, compilations=3),
            result(TORCH_COMPILED, 4096, 64, s=8.0, compilations=2),
        ],
        "against": [result(OURS, 8, 4, ms=10.2, before_ms=10.0)],
    }
    verdicts = [v for v in targets.of_a_run(found) if int(v.target.name[1:]) > 13]
    judged = {(v.target.name, v.n): (pytest.approx(v.ratio), v.met) for v in verdicts}
    assert judged == {
        ("C14", 4096): (1.1, False),
        ("C14", 16384): (1.0, True),
        ("C15", 4096): (0.55, True),
        ("C16", 16384): (1.2, False),
        ("C17", 4096): (3.0, False),
        ("C18", 4096): (0.625, True),
        ("C19", 8): (1.02, True),
    }
    assert verdicts[0].line().startswith("C14 NOT MET symmetric InfoNCE, compiled, N=4096, d=64:")


def test_tables_of_compilations_and_of_another_checkout():
    compiling = [
        result(OURS_COMPILED, 4096, 64, s=5.04, compilations=2),
        result(TORCH_COMPILED, 4096, 64, s=None, compilations=None),
    ]
    text = " ".join(report.compilations(compiling).split())
    assert "| symmetric InfoNCE: mmcontrast, compiled | 5.04 | 2 |" in text
    assert "| symmetric InfoNCE: plain torch, compiled | - | - |" in text
    both = [result(OURS, 8, 4, ms=10.2, before_ms=10.0, quartiles=[0.98, 1.051])]
    text = " ".join(report.against(both).split())
    assert "mmcontrast | 8 | 4 | 10 | 10.2 | 1.020 | 0.980 to 1.051 |" in text


def test_table_marks_what_is_missing_and_what_disagrees():
    found = [
        result(OURS, 8, 4, ms=3.0, floor_ms=2.0, MB=1.0),
        result("peer", 8, 4, ms=1234.5, floor_ms=2.0, MB=None) | {"apart": 0.1},
        result(OURS, 16, 4, ms=0.0124, floor_ms=4.0, MB=1.0),
    ]
    lines = [" ".join(line.split()) for line in report.tables(found).splitlines()]
    assert "| floor | 2 | | 4 | |" in lines
    assert "| mmcontrast | 3 (1.5) | 1 | 0.0124 (0.0031) | 1 |" in lines
    assert "| peer (other value!) | 1234 (617) | - | - | - |" in lines
