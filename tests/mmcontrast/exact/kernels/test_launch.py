"""That the kernels compile; when they are chosen, and what they import."""

import json

import pytest
import torch

from mmcontrast.exact import choose, kernels
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import chosen
from tests.mmcontrast.exact.kernels.cases import BLOCKS, given
from tests.mmcontrast.exact.kernels.compiling import fits
from tests.mmcontrast.exact.kernels.conftest import TRITON
from tests.processes import python


@pytest.mark.skipif(not TRITON, reason="the kernels are NOT compiled: no Triton here")
@pytest.mark.slow
def test_kernels_compile_for_every_generation_and_fit_it():
    command = "tests.mmcontrast.exact.kernels.compiling"
    done = python("-m", command, "--json", TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found) == 10 + 4 * 2 + 4 * 3 + 3
    products = {"sm_90": "wgmma", "sm_100": "tcgen05.mma"}
    for kernel in found:
        assert fits(kernel), kernel
        on_tensor_cores = "d=" in kernel["name"] and "ieee" not in kernel["name"]
        expected = products.get(kernel["target"], "mma.sync") if on_tensor_cores else None
        assert kernel["products"] == expected, kernel


def test_what_does_not_fit_is_told():
    kernel = {"target": "sm_86", "tensor_memory": 512, "stack": 128}
    kernel |= {"shared": 99 * 1024, "room": 99 * 1024}
    assert fits(kernel)
    assert not fits(kernel | {"room": 99 * 1024 + 1})
    assert not fits(kernel | {"room": 99 * 1024 - 1})
    assert fits(kernel | {"target": "sm_80", "room": 163 * 1024})
    assert not fits(kernel | {"tensor_memory": 513})
    assert not fits(kernel | {"stack": 136})


# --- which tensors, which precision --------------------------------------------------------------


def test_tensors_that_the_kernels_take(device):
    x = torch.randn(4, 3, device=device)
    assert choose.kernels_suit(x, x.half(), x.bfloat16(), torch.nn.Parameter(x))
    assert not choose.kernels_suit(x, x.double())
    assert not choose.kernels_suit(x, torch.randn(4, 3, device="meta"))
    with torch.autograd.forward_ad.dual_level():
        assert not choose.kernels_suit(x)
    seen = []
    torch.func.vmap(lambda row: seen.append(choose.kernels_suit(row)) or row)(x)
    assert seen == [False]


def test_tensors_on_the_cpu_are_not_for_the_kernels():
    assert not choose.kernels_suit(torch.randn(4, 3))


def test_without_triton_nothing_is_for_the_kernels(monkeypatch):
    monkeypatch.setattr(choose, "INTERPRETED", True)
    monkeypatch.setattr(choose, "_has_triton", lambda: False)
    assert not choose.kernels_suit(torch.randn(4, 3))


@pytest.mark.parametrize(
    ("capability", "hip", "expected"),
    [
        *(((major, minor), None, True) for major in (8, 9, 10, 12) for minor in (0, 6)),
        ((7, 5), None, False),
        ((13, 0), None, False),
        ((9, 4), "6.2", False),
    ],
)
def test_gpus_that_the_blocks_are_meant_for(capability, hip, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(choose, "_has_triton", lambda: True)
    monkeypatch.delenv("MMCONTRAST_KERNELS", raising=False)
    assert choose._device_suits(torch.device("cuda")) == expected
    monkeypatch.setenv("MMCONTRAST_KERNELS", "0")
    assert not choose._device_suits(torch.device("cuda"))


def test_precision_is_that_of_the_inputs():
    x = torch.randn(2, 2)
    assert kernels.precision(kernels.rounded_to(x, x)) == "ieee"
    assert kernels.precision(kernels.rounded_to(x.bfloat16(), x.bfloat16())) == "bf16"
    assert kernels.precision(kernels.rounded_to(x.half())) == "fp16"
    assert kernels.precision(kernels.rounded_to(x, x.half())) == "ieee"
    assert kernels.precision(kernels.rounded_to(x.bfloat16(), x.half())) == "ieee"


SETTINGS = """
import torch
from mmcontrast.exact import kernels
x = torch.zeros(1)
torch.set_float32_matmul_precision("high")
assert kernels.precision(kernels.rounded_to(x)) == "tf32"
assert kernels.precision(kernels.rounded_to(x.half())) == "fp16"
torch.set_float32_matmul_precision("highest")
assert kernels.precision(kernels.rounded_to(x)) == "ieee"
torch.backends.cuda.matmul.allow_tf32 = True
assert kernels.precision(kernels.rounded_to(x)) == "tf32"
torch.backends.cuda.matmul.fp32_precision = "ieee"
assert kernels.precision(kernels.rounded_to(x)) == "ieee"
"""


# --- what is imported ----------------------------------------------------------------------------

ON_THE_CPU = """
import sys, torch, mmcontrast
from mmcontrast.exact import choose
x, y = torch.randn(2, 300, 4, requires_grad=True)
labels = torch.arange(300) % 9
for loss in (
    mmcontrast.info_nce(x, y),
    mmcontrast.symmetric_info_nce(x, y),
    mmcontrast.sigmoid_contrast(x, y),
    mmcontrast.sup_con(x, labels),
):
    loss.backward(retain_graph=True)
assert not choose.kernels_suit(x, y)
assert not any(name.split(".")[0] == "triton" for name in sys.modules)
assert "mmcontrast.exact.kernels.triton_tiles" not in sys.modules
"""


IN_FORKS = """
import os, sys, torch
for program in sys.argv[1:]:
    if os.fork() == 0:
        exec(program)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""


def test_triton_is_never_imported_on_the_cpu_and_precision_follows_the_setting_of_pytorch():
    """Each in a fork of one process that has imported torch alone."""
    interpreted = (f"os.environ['TRITON_INTERPRET'] = '{k}'\n{ON_THE_CPU}" for k in range(2))
    done = python("-W", "ignore", "-c", IN_FORKS, SETTINGS, *interpreted)
    assert done.returncode == 0, done.stderr


def test_rows_are_padded_to_where_they_begin_at_16_bytes():
    for d, padded in ((1, 8), (8, 8), (300, 304)):
        x = torch.randn(3, d)
        for precision in kernels.PRECISIONS:
            found = launch.rounded(x, precision)
            assert found.shape == (3, padded)
            assert found.is_contiguous()
            torch.testing.assert_close(found[:, :d].float(), x, rtol=1e-2, atol=1e-2)
            assert not found[:, d:].any()
        again = launch.without_padding(torch.ones(3, padded), x)
        assert again.shape == x.shape
        assert again.is_contiguous()
    x = torch.randn(3, 16)
    assert launch.rounded(x, "ieee").data_ptr() == x.data_ptr()


@pytest.mark.parametrize("ways", ["rows", "columns", "both"])
def test_a_logit_above_its_shift_counts_as_the_shift(ways, device):
    """Rounding alone puts huge logits there, in another order of summation."""
    x, y = (z.detach() for z in given("random", 18, 6, "ieee", device))
    t = torch.tensor(1e-3, device=device)
    logits = launch.Logits(x, y, t, "ieee", blocks=BLOCKS)
    lowest = torch.tensor(launch.LOWEST, device=device)
    ones = (torch.ones(len(z), device=device) for z in (x, y))
    rows, columns = (launch.Share(z, z, 0 * z) for z in ones)
    found, _ = launch.gradient(
        logits,
        lowest,
        None if ways == "columns" else rows,
        None if ways == "rows" else columns,
    )
    octaves = x.double() @ y.double().T * launch.LOG2_E / t
    expected = octaves.clamp_max(0).exp2() @ y.double() * (2 if ways == "both" else 1)
    assert octaves.max() > 1000
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gradient", [False, True])
def test_blocks_are_those_of_the_device_or_those_given(gradient, monkeypatch):
    x, t = torch.zeros(3, 300), torch.ones(())
    logits = launch.Logits(x, x, t, "bf16")
    for capability in ((8, 0), (8, 6), (9, 0), (10, 0)):
        monkeypatch.setattr(launch, "capability", lambda device, found=capability: found)
        expected = chosen(300, "bf16", gradient=gradient, capability=capability)
        assert logits.chosen(gradient=gradient) == expected
    assert logits._replace(blocks=BLOCKS).chosen(gradient=gradient) == BLOCKS
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert launch.capability(torch.device("cuda")) == (8, 9)
