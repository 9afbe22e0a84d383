"""The benchmark on a GPU: its tables and verdicts, with a clock that is told the time."""

import json

import pytest
import torch

from tests.benchmarks import gpu, gpu_targets
from tests.benchmarks.cases import OURS, PLAIN, SYMMETRIC
from tests.benchmarks.gpu import GpuCase
from tests.benchmarks.peers import OPEN_CLIP


def result(kind, case, n, d, **figures):
    return {
        "loss": gpu_targets.LOSSES[kind].name,
        "case": case,
        "n": n,
        "d": d,
        "apart": 0.0,
    } | figures


class Clock:
    """Takes every call, and gives the times it was told in turn."""

    def __init__(self, *times):
        self.times, self.calls = list(times), 0

    def __call__(self, call):
        call()
        self.calls += 1
        return self.times.pop(0) if self.times else 1.0


def test_without_a_gpu_one_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == (
        "No CUDA device is here: the losses on a GPU are not measured.\n"
    )


def test_the_floor_computes_the_three_products(monkeypatch):
    monkeypatch.setattr(gpu, "BLOCK", 60)  # blocks of 3 rows
    inputs = gpu.given(20, 5, "ieee", "cpu")
    x, y = (z.detach() for z in inputs.rows)
    to_x, to_y = gpu.floor(inputs)
    torch.testing.assert_close(to_x, x @ y.T @ y)
    torch.testing.assert_close(to_y, y @ x.T @ x)


def test_the_first_calls_do_not_count_and_a_long_call_is_taken_once():
    clock = Clock(90, 5, 2000, 2000, 3, 2000, 4, 8)
    assert gpu.interleaved([lambda: None, lambda: None], 3, clock) == [4, 2000]
    assert clock.calls == 8  # twice each, then 3 and 1


def test_products_are_in_tf32_only_meanwhile():
    for kind, setting in (("tf32", "high"), ("bf16", "highest")):
        with gpu.products(kind):
            assert torch.get_float32_matmul_precision() == setting
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_size_is_measured_told_and_written(tmp_path, capsys, monkeypatch):
    def fails(kind, d):
        def call(inputs):
            raise RuntimeError("cannot")

        return call

    def missing(kind, d):
        raise ImportError("no such thing")

    some = [case for case in gpu.CASES if case.name in (PLAIN, gpu.TILES)]
    own = GpuCase(OURS, gpu.plain)  # the kernels want a GPU
    monkeypatch.setattr(
        gpu, "CASES", [own, *some, GpuCase("fails", fails), GpuCase("missing", missing)]
    )
    options = gpu.arguments(
        ["--sizes", "12", "--dims", "4", "--rounds", "3", "--out", str(tmp_path)]
    )
    results = gpu.measure(options, Clock(), lambda call: call() and 7.0, "cpu")
    printed = capsys.readouterr().out
    assert "missing (no such thing)" in printed
    assert "Left out: fails (symmetric InfoNCE, bf16, N=12, d=4: RuntimeError('cannot'))" in printed
    assert "### symmetric InfoNCE, tf32, d=4" in printed
    assert "No target is meant" in printed
    assert {(r["loss"], r["case"]) for r in results} == {
        (loss.name, case)
        for loss in gpu_targets.LOSSES.values()
        for case in (OURS, PLAIN, gpu.TILES)
    }
    for r in results:
        assert (r["ms"], r["floor_ms"], r["MB"]) == (1.0, 1.0, 7.0)
        assert r["apart"] < 1e-5
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["results"] == results
    for kind, most in (("ieee", 1e-6), ("bf16", 1e-2)):
        errors = written["errors"][f"{kind}, d=4"]
        assert set(errors) == {OURS, PLAIN, gpu.TILES}
        assert max(errors.values()) < most
    assert "ieee, d=4: mmcontrast " in printed
    assert "### symmetric InfoNCE, bf16, d=4" in (tmp_path / "gpu.md").read_text()


def test_cases_are_chosen_by_name_and_by_what_fits():
    options = gpu.arguments(["--cases", "mmcontrast,clip", "--memory", "1"])
    names = {case.name for case in gpu.chosen(options, 1024)}
    assert names == {OURS, PLAIN, gpu.TILES, OPEN_CLIP}
    assert {case.name for case in gpu.chosen(options, 8192)} == {OURS, gpu.TILES, OPEN_CLIP}
    assert {case.name for case in gpu.chosen(options, 2**20)} == {OURS, gpu.TILES}


def test_targets_are_ratios_where_they_are_meant():
    n = 32768
    found = [
        result("bf16", OURS, n, 512, ms=10.0, floor_ms=4.0, MB=1000.0),
        result("bf16", OPEN_CLIP, n, 512, ms=20.0, floor_ms=4.0, MB=9000.0),
        result("bf16", gpu_targets.INF_CL, n, 512, ms=25.0, floor_ms=4.0, MB=300.0),
        result("bf16", OURS, n, 64, ms=2.0, floor_ms=0.5, MB=100.0),
        result("bf16", OPEN_CLIP, n, 64, ms=20.0, floor_ms=0.5, MB=9000.0),
        result("bf16", OURS, 4096, 512, ms=1.0, floor_ms=0.1, MB=100.0),
        result("ieee", OURS, n, 512, ms=300.0, floor_ms=100.0, MB=100.0),
    ]
    judged = {
        (v.target.name, v.target.loss.name.split(", ")[1], v.d, v.target.against): (
            pytest.approx(v.ratio),
            v.met,
        )
        for v in gpu_targets.verdicts(found)
    }
    assert all(v.n == n for v in gpu_targets.verdicts(found))
    large, small = 16 * n * 512 / 2**20 + 64, 16 * n * 64 / 2**20 + 64
    assert judged == {
        ("G1", "bf16", 512, gpu_targets.FLOOR): (2.5, True),
        ("G1", "bf16", 512, OPEN_CLIP): (0.5, False),
        ("G1", "bf16", 64, OPEN_CLIP): (0.1, True),
        ("G2", "bf16", 512, gpu_targets.ROWS): (1000 / large, False),
        ("G2", "bf16", 64, gpu_targets.ROWS): (100 / small, False),
        ("G2", "ieee", 512, gpu_targets.ROWS): (100 / large, True),
        ("G3", "bf16", 512, gpu_targets.INF_CL): (0.4, True),
        ("G1", "ieee", 512, gpu_targets.FLOOR): (3.0, False),
    }


def test_both_precisions_of_a_loss_have_tables_of_their_own():
    assert len({loss.name for loss in gpu_targets.LOSSES.values()}) == 3
    assert all(loss.name.startswith(SYMMETRIC.name) for loss in gpu_targets.LOSSES.values())
