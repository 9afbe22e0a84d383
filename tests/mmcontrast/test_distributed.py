"""Rows of all ranks, in real processes; a rank that dies is an error, not a wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast import rank_programs

ROOT = Path(__file__).parents[2]


def launch(program, world):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    return subprocess.run(
        [sys.executable, *call, "-m", "tests.mmcontrast.rank_programs", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "world"),
    [
        ("rows", 2),
        ("rows", 4),
        ("gradients", 3),
        ("gradients", 4),
        ("parameters", 2),
        ("parameters", 3),
        ("disagree", 2),
        ("groups", 2),
    ],
)
def test_on_ranks(program, world):
    done = launch(program, world)
    assert done.returncode == 0, done.stderr[-3000:]


def test_without_a_process_group_it_is_the_identity():
    for value in (torch.randn(3, 2, requires_grad=True), torch.zeros(0, 2), torch.tensor([True])):
        assert mm.gather(value) is value


def test_a_single_number_is_no_rows():
    with pytest.raises(ValueError, match=r"x: expected rows, shape \(B, ...\), got a 0-d tensor"):
        mm.gather(torch.tensor(1.0))


def test_the_programs_have_uneven_and_empty_ranks():
    assert any(len(set(sizes)) > 1 for sizes in rank_programs.SIZES.values())
    assert any(0 in sizes for sizes in rank_programs.SIZES.values())
