"""The benchmark on a GPU: its parts, tables and verdicts, with a clock that is told the time."""

import importlib.metadata
import json
import sys
import types

import pytest
import torch

from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import generation
from mmcontrast.exact.tiles import NegativeSums
from tests.benchmarks import cases, gpu, gpu_blocks, gpu_cases, gpu_measure, gpu_targets
from tests.benchmarks.cases import OURS, PLAIN, SYMMETRIC, TEMPERATURE, TORCH
from tests.benchmarks.gpu import Part
from tests.benchmarks.gpu_cases import TILES, GpuCase
from tests.benchmarks.gpu_measure import DeviceLost, Tools
from tests.benchmarks.gpu_targets import INF_CL, MEMEFF
from tests.benchmarks.peers import OPEN_CLIP
from tests.mmcontrast.exact.kernels.compiling import room

SMALL = ["--sizes", "12", "--dims", "4", "--rounds", "3"]


def result(kind, case, n, d, losses=gpu_targets.LOSSES, **figures):
    return {"loss": losses[kind].name, "case": case, "n": n, "d": d, "apart": 0.0} | figures


class Clock:
    """Takes every call, and gives the times it was told in turn."""

    def __init__(self, *times):
        self.times, self.calls = list(times), 0

    def __call__(self, call):
        call()
        self.calls += 1
        return self.times.pop(0) if self.times else 1.0


@pytest.fixture
def said():
    return []


@pytest.fixture
def tools(said):
    return Tools(Clock(), lambda call: call() and 7.0, said.append, 3)


def failing(kind, d):
    def call(inputs):
        raise RuntimeError("cannot")

    return call


def missing(kind, d):
    raise ImportError("no such thing")


def lost(kind, d):
    def call(inputs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return call


def test_without_a_gpu_one_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == (
        "No CUDA device is here: the losses on a GPU are not measured.\n"
    )


# --- what is measured ----------------------------------------------------------------------------


def test_the_floors_compute_the_products(monkeypatch):
    monkeypatch.setattr(gpu_cases, "BLOCK", 60)  # blocks of 3 rows
    inputs = gpu_cases.given(20, 5, "ieee", "cpu")
    x, y = (z.detach() for z in inputs.rows)
    to_x, to_y = gpu_cases.products_alone(inputs)
    torch.testing.assert_close(to_x, x @ y.T @ y)
    torch.testing.assert_close(to_y, y @ x.T @ x)
    made = []
    with monkeypatch.context() as patch:
        product = torch.mm
        patch.setattr(torch, "mm", lambda a, b: made.append(product(a, b)))
        gpu_cases.one_product(inputs)
    torch.testing.assert_close(torch.cat(made), x @ y.T)


@pytest.mark.parametrize(
    "way", [gpu_cases.plain, gpu_cases.ours, gpu_cases.at_once, gpu_cases.tiles]
)
def test_cases_of_this_machine_are_the_same_loss(way):
    inputs = gpu_cases.given(20, 5, "ieee", "cpu")
    torch.testing.assert_close(way("ieee", 5)(inputs), cases.torch_symmetric(inputs))
    views = *inputs.rows, inputs.labels
    torch.testing.assert_close(gpu_cases.loss_of_views(*views), cases.torch_symmetric(inputs))


def test_memeff_is_asked_for_the_gradient_of_the_loss(monkeypatch):
    asked = []
    module = types.ModuleType("memeff")
    module.MemoryEfficientCLIPLoss = lambda **options: asked.append(options)
    monkeypatch.setitem(sys.modules, "memeff", module)
    gpu_cases.memeff("bf16", 512)
    assert asked == [{"temperature": TEMPERATURE, "normalized_inputs": True, "stable": False}]


@pytest.mark.parametrize(("d", "head"), [(64, 64), (384, 128), (512, 256), (768, 256), (1024, 256)])
def test_inf_cl_cuts_the_features_evenly(d, head, monkeypatch):
    module, heads = types.ModuleType("inf_cl"), []

    def way(x, y, labels, scale, size):
        heads.append(size)
        return (x * y).sum(1) * scale

    module.cal_flash_loss = way
    monkeypatch.setitem(sys.modules, "inf_cl", module)
    inputs = gpu_cases.given(4, d, "ieee", "cpu")
    value = gpu_cases.inf_cl("ieee", d)(inputs)
    torch.testing.assert_close(value, (inputs.rows[0] * inputs.rows[1]).sum(1).mean() / TEMPERATURE)
    assert heads == [head, head]


def test_versions_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(gpu_cases, "LIBRARIES", {"one": "torch", "other": "no-such-package"})
    assert gpu_cases.versions() == {"one": importlib.metadata.version("torch"), "other": "MISSING"}


def test_products_are_in_tf32_only_meanwhile():
    for kind, setting in (("tf32", "high"), ("bf16", "highest")):
        with gpu_cases.products(kind):
            assert torch.get_float32_matmul_precision() == setting
        assert torch.get_float32_matmul_precision() == "highest"


# --- how it is measured --------------------------------------------------------------------------


def test_the_first_calls_do_not_count_and_a_long_call_is_taken_once(tools):
    clock = Clock(90, 5, 2000, 2000, 3, 2000, 4, 8)
    calls = [lambda: None, lambda: None]
    assert gpu_measure.interleaved(calls, tools._replace(clock=clock)) == [4, 2000]
    assert clock.calls == 8  # twice each, then 3 and 1


def test_after_the_deadline_there_is_one_round_and_no_new_case(tools, said):
    late = tools._replace(deadline=0.0)
    assert gpu_measure.interleaved([lambda: None], late) == [1.0]
    assert late.clock.calls == 3
    inputs = gpu_cases.given(4, 3, "ieee", "cpu")
    loss, some = gpu_targets.LOSSES["ieee"], [GpuCase(TORCH, gpu_cases.plain)]
    assert gpu_measure.measured(loss, some, gpu_cases.one_product, inputs, "ieee", late) == []
    assert said == ["Left out: plain torch (symmetric InfoNCE, ieee, N=4, d=3: no time is left)"]
    assert gpu_measure.gradient_errors(some, "ieee", 3, "cpu", 4, late) == {}


@pytest.mark.parametrize("step", ["time", "errors"])
def test_an_error_of_the_device_names_the_case(step, tools):
    some = [GpuCase("crash", lost)]
    inputs = gpu_cases.given(4, 3, "ieee", "cpu")
    loss = gpu_targets.LOSSES["ieee"]
    steps = {
        "time": lambda: gpu_measure.measured(
            loss, some, gpu_cases.one_product, inputs, "ieee", tools
        ),
        "errors": lambda: gpu_measure.gradient_errors(some, "ieee", 3, "cpu", 4, tools),
    }
    with pytest.raises(DeviceLost, match=r"crash: .*illegal memory access") as raised:
        steps[step]()
    assert raised.value.case == "crash"
    gpu_measure.raise_if_lost(some[0], RuntimeError("CUDA error: out of memory"))


def test_a_size_is_measured_told_and_written(tmp_path, capsys, monkeypatch, tools, said):
    some = [case for case in gpu_cases.CASES if case.name in (PLAIN, TILES)]
    own = GpuCase(OURS, gpu_cases.at_once)
    others = [GpuCase("fails", failing), GpuCase("missing", missing)]
    monkeypatch.setattr(gpu_cases, "CASES", [own, *some, *others])
    options = gpu.arguments([*SMALL, "--out", str(tmp_path)])
    results = gpu.measure(options, tools, "cpu")
    printed = capsys.readouterr().out
    assert "MISSING: missing is not compared with: no such thing" in printed
    assert "Left out: fails (symmetric InfoNCE, bf16, N=12, d=4: RuntimeError('cannot'))" in said
    assert "### symmetric InfoNCE, tf32, d=4" in printed
    assert "G2 NOT JUDGED symmetric InfoNCE, bf16, N=32768" in printed
    assert {(r["loss"], r["case"]) for r in results} == {
        (loss.name, case) for loss in gpu_targets.LOSSES.values() for case in (OURS, PLAIN, TILES)
    }
    for r in results:
        assert (r["ms"], r["floor_ms"], r["MB"]) == (1.0, 1.0, 7.0)
        assert r["apart"] < 1e-5
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert [r for part in written["parts"].values() for r in part["results"]] == results
    for kind, most in (("ieee", 1e-6), ("bf16", 1e-2)):
        part = written["parts"][f"symmetric InfoNCE, {kind}, N=12, d=4"]
        errors = part["errors"][f"{kind}, d=4"]
        assert set(errors) == {OURS, PLAIN, TILES}
        assert max(errors.values()) < most
    assert "ieee, d=4: mmcontrast " in printed
    assert "### symmetric InfoNCE, bf16, d=4" in (tmp_path / "gpu.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


# --- a run that is cut ---------------------------------------------------------------------------


@pytest.fixture
def two_parts(monkeypatch):
    """A machine that stays the same, one case, two sizes."""
    machine = {"gpu": "some", "torch": "1", "kernels": True}
    monkeypatch.setattr(gpu, "about", lambda: dict(machine))
    monkeypatch.setattr(gpu_cases, "CASES", [GpuCase(OURS, gpu_cases.plain)])
    monkeypatch.setattr(gpu, "PARTS", [Part("ieee", 3, 8), Part("ieee", 3, 10)])
    monkeypatch.setattr(gpu, "ROWS_OF_ERRORS", 16)
    return machine


def test_a_run_that_is_cut_leaves_what_it_has_and_is_resumed(tmp_path, two_parts, tools, capsys):
    class Cut(Exception):
        pass

    class CutClock(Clock):
        def __call__(self, call):
            if self.calls == 7:  # the first part takes 6, three of its case and three of its floor
                raise Cut
            return super().__call__(call)

    options = gpu.arguments(["--out", str(tmp_path), "--rounds", "3", "--resume"])
    first, second = (part.name for part in gpu.PARTS)
    once = tools._replace(rounds=1, clock=CutClock())
    with pytest.raises(Cut):
        gpu.measure(options, once, "cpu")
    assert list(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == [first]
    capsys.readouterr()
    results = gpu.measure(options, tools, "cpu")
    assert f"Kept: {first}" in capsys.readouterr().out
    assert [r["n"] for r in results] == [8, 10]
    assert list(json.loads((tmp_path / "gpu.json").read_text())["parts"]) == [first, second]


@pytest.mark.parametrize("change", [{"gpu": "another"}, {"torch": "2"}, {"memeff": "9"}])
def test_figures_of_another_machine_are_not_kept(change, tmp_path, two_parts):
    gpu.write(tmp_path, two_parts, 1, {"a part": {"results": [], "errors": {}}})
    assert list(gpu.kept(tmp_path, two_parts)) == ["a part"]
    assert gpu.kept(tmp_path, two_parts | change) == {}
    assert gpu.kept(tmp_path / "nothing", two_parts) == {}


def test_what_the_time_does_not_reach_is_named(tmp_path, two_parts, tools, capsys):
    options = gpu.arguments(["--out", str(tmp_path)])
    assert gpu.measure(options, tools._replace(deadline=0.0), "cpu") == []
    printed = capsys.readouterr().out
    for part in gpu.PARTS:
        assert f"Left out: {part.name} (no time is left)" in printed


def test_after_an_error_of_the_device_a_new_process_goes_on_without_the_case(
    tmp_path, two_parts, capsys, monkeypatch
):
    ran = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "device_clock", Clock)
    monkeypatch.setattr(gpu.os, "execv", lambda path, command: ran.append(command))

    def measure(options, tools):
        raise DeviceLost(MEMEFF, RuntimeError("CUDA error"))

    monkeypatch.setattr(gpu, "measure", measure)
    gpu.main(["--out", str(tmp_path), "--without", "some", "--seconds", "100"])
    assert "LOST: memeff" in capsys.readouterr().out
    options = gpu.arguments(ran[0][3:])
    assert options.resume
    assert options.without == "some,memeff"
    assert 0 < options.seconds <= 100
    names = {c.name for c in gpu.chosen(options, Part("ieee", 3), gpu_cases.CASES)}
    assert names == {OURS}
    without = gpu.arguments(["--without", f"some,{OURS}"])
    assert gpu.chosen(without, Part("ieee", 3), gpu_cases.CASES) == []


# --- which cases, which targets ------------------------------------------------------------------


def test_cases_are_chosen_by_name_and_by_what_fits():
    options = gpu.arguments(["--cases", "mmcontrast,clip", "--memory", "1"])
    own = {OURS, TILES, gpu_cases.KERNELS_ALONE}

    def names(n):
        return {case.name for case in gpu.chosen(options, Part("ieee", 64, n), gpu_cases.CASES)}

    assert names(1024) == {*own, PLAIN, OPEN_CLIP, gpu_cases.OURS_COMPILED}
    assert names(8192) == {*own, OPEN_CLIP}
    assert names(2**20) == own


def test_the_compiler_takes_its_time_only_where_it_is_meant():
    options = gpu.arguments([])
    compiled = {gpu_cases.OURS_COMPILED, gpu_cases.TORCH_COMPILED}
    for part in gpu.PARTS:
        names = {case.name for case in gpu.chosen(options, part, gpu_cases.CASES)}
        assert names
        assert not names & compiled or names == set(gpu.COMPILED)
    assert len({part.name for part in gpu.PARTS}) == len(gpu.PARTS)


def test_the_parts_reach_every_target():
    """What one GPU can be judged by, if all of the libraries are there."""
    options = gpu.arguments([])
    results = [
        result(
            part.kind,
            case.name,
            part.n,
            part.d,
            gpu_targets.TOP_K if part.top_k else gpu_targets.LOSSES,
        )
        | {"ms": 1.0, "MB": 1.0, "floor_ms": 1.0}
        for part in gpu.PARTS
        for case in gpu.chosen(options, part, gpu_cases.CASES)
    ]
    judged = {id(verdict.target) for verdict in gpu_targets.verdicts(results)}
    assert judged == {id(target) for target in gpu_targets.TARGETS}
    assert [line for line in gpu_targets.lines(results) if "NOT JUDGED" in line] == (
        gpu_targets.ELSEWHERE
    )


def test_targets_are_ratios_where_they_are_meant():
    n = 32768
    top = {"losses": gpu_targets.TOP_K}
    found = [
        result("bf16", OURS, n, 512, ms=10.0, floor_ms=4.0, MB=1000.0),
        result("bf16", OPEN_CLIP, n, 512, ms=20.0, floor_ms=4.0, MB=9000.0),
        result("bf16", INF_CL, n, 512, ms=25.0, floor_ms=4.0, MB=300.0),
        result("bf16", MEMEFF, n, 512, ms=8.0, floor_ms=4.0, MB=300.0),
        result("bf16", OURS, n, 64, ms=2.0, floor_ms=0.5, MB=100.0),
        result("bf16", OPEN_CLIP, n, 64, ms=20.0, floor_ms=0.5, MB=9000.0),
        result("bf16", MEMEFF, n, 64, ms=1.0, floor_ms=0.5, MB=9000.0),
        result("bf16", OURS, 4096, 512, ms=1.0, floor_ms=0.1, MB=100.0),
        result("ieee", OURS, n, 512, ms=300.0, floor_ms=100.0, MB=100.0),
        result("tf32", OURS, n, 512, **top, ms=3.0, floor_ms=2.0, MB=4096 / 8),
    ]
    judged = {
        (v.target.name, v.target.loss.name, v.d, v.target.against): (
            pytest.approx(v.ratio),
            v.met,
        )
        for v in gpu_targets.verdicts(found)
    }
    assert all(v.n == n for v in gpu_targets.verdicts(found))
    large, small = 16 * n * 512 / 2**20 + 64, 16 * n * 64 / 2**20 + 64
    bf16, ieee = (gpu_targets.LOSSES[kind].name for kind in ("bf16", "ieee"))
    top_k = gpu_targets.TOP_K["tf32"].name
    assert judged == {
        ("G1", bf16, 512, gpu_targets.FLOOR): (2.5, True),
        ("G1", bf16, 512, OPEN_CLIP): (0.5, False),
        ("G1", bf16, 64, OPEN_CLIP): (0.1, True),
        ("G2", bf16, 512, gpu_targets.ROWS): (1000 / large, False),
        ("G2", bf16, 64, gpu_targets.ROWS): (100 / small, False),
        ("G2", ieee, 512, gpu_targets.ROWS): (100 / large, True),
        ("G3", bf16, 512, INF_CL): (0.4, True),
        ("G5", top_k, 512, gpu_targets.FLOOR): (1.5, True),
        ("G5", top_k, 512, gpu_targets.MATRIX): (0.125, False),
        ("G6", bf16, 512, MEMEFF): (1.25, False),
        ("G1", ieee, 512, gpu_targets.FLOOR): (3.0, False),
    }
    told = "\n".join(gpu_targets.lines(found))
    assert "G6 NOT MET symmetric InfoNCE, bf16, N=32768, d=512: 10 ms / 8 of memeff" in told
    assert "G6 NOT JUDGED symmetric InfoNCE, bf16, N=32768, d=768: no ms of it or of memeff" in told
    assert "G4 NOT JUDGED" in told


def test_each_precision_of_a_loss_has_tables_of_its_own():
    assert len({loss.name for loss in gpu_targets.LOSSES.values()}) == 3
    assert all(loss.name.startswith(SYMMETRIC.name) for loss in gpu_targets.LOSSES.values())


# --- blocks beside each other --------------------------------------------------------------------


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (10, 0), (12, 0)])
def test_blocks_that_do_not_fit_are_not_tried(capability):
    for lists, gradient in ((gpu_blocks.SUMS, False), (gpu_blocks.GRADIENTS, True)):
        for kind, d in lists:
            found = gpu_blocks.others(kind, d, gradient, capability)
            for blocks in found:
                assert bool(blocks.width) == gradient
                assert room(blocks, d, kind, capability) <= generation(capability).shared
            if capability == (9, 0):
                assert len(found) == len(lists[kind, d])
    assert gpu_blocks.others("ieee", 64, True, capability) == []
    assert gpu_blocks.others("bf16", 500, True, (9, 0)) == gpu_blocks.others(
        "bf16", 512, True, (9, 0)
    )


def test_blocks_are_compared_told_and_written(tmp_path, monkeypatch, tools, said, capsys):
    launched = []

    def sums(logits, base, *, both):
        launched.append(logits.blocks)
        ones = torch.ones(len(logits.x))
        return NegativeSums(ones, ones, 0 * ones, 0 * ones)

    def gradient(logits, base, rows, columns):
        if logits.blocks.rows == 32:
            raise RuntimeError("out of resource")
        launched.append(logits.blocks)

    monkeypatch.setattr(launch, "sums", sums)
    monkeypatch.setattr(launch, "gradient", gradient)
    options = types.SimpleNamespace(kinds=["bf16"], dims=[300], size=8, out=tmp_path)
    once = tools._replace(peak=lambda call: (call(), 5.0)[1])
    gpu_blocks.compare(options, once, (9, 0), "cpu")
    assert sum("out of resource" in line for line in said) == 1  # one of the blocks of 512
    written = json.loads((tmp_path / "gpu-blocks.json").read_text())["results"]
    cases_of = {(r["loss"], r["case"]) for r in written}
    assert ("gradient kernel, bf16", "(64, 64, 512, 512, 8, 2) of the table") in cases_of
    assert ("sums kernel, bf16", "(128, 256, 64, 0, 8, 3) of the table") in cases_of
    tried = {str(tuple(blocks)) for blocks in launched if blocks is not None}
    assert tried == {case.removesuffix(" of the table") for _, case in cases_of}
    assert "### sums kernel, bf16, d=300" in capsys.readouterr().out
    assert "(64, 32, 512, 512, 8, 3)" in (tmp_path / "gpu-blocks.md").read_text()


def test_the_floor_of_a_gradient_is_two_products():
    inputs = gpu_cases.given(20, 5, "ieee", "cpu")
    x, y = (z.detach() for z in inputs.rows)
    torch.testing.assert_close(gpu_blocks.two_products(inputs), x @ y.T @ y)


def test_without_a_gpu_no_blocks_are_compared(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_blocks.main([]) == 1
    assert "not compared" in capsys.readouterr().out
