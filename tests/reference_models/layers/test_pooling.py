"""One vector for each sequence: of its real steps, whatever stands on the others."""

import math

import pytest
import torch

from reference_models.layers.pooling import POOLS, first_step, last_step, masked_mean, pool


@pytest.mark.parametrize("last", ["real", "index"])
def test_last_step(last, generator):
    sequence = torch.randn(6, 5, 3, generator=generator)
    mask = torch.tensor(
        [
            [1, 1, 1, 1, 1],
            [1, 1, 0, 0, 0],
            [1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 1, 1, 0, 0],  # padding in front and a hole are masks too
            [1, 0, 0, 1, 0],
        ]
    ).bool()
    sequence[3] = math.nan
    chosen = last_step(sequence, mask, last=last)
    for row in range(6):
        real = [t for t in range(5) if mask[row, t]]
        at = 4 if last == "index" or not real else real[-1]
        expected = sequence[row, at] if real else torch.zeros(3)
        assert torch.equal(chosen[row], expected)


def test_last_step_refuses():
    sequence, mask = torch.zeros(2, 3, 4), torch.ones(2, 3).bool()
    with pytest.raises(ValueError, match=r"last: expected one of .*'index'.*, got 'mean'"):
        last_step(sequence, mask, last="mean")
    with pytest.raises(ValueError, match="mask: expected bool of shape"):
        last_step(sequence, mask[:, :2])


@pytest.mark.parametrize("how", POOLS)
def test_pools_take_real_steps_only(how, generator):
    x = torch.randn(3, 6, 4, generator=generator)
    mask = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
    x = x.masked_fill(~mask.unsqueeze(-1), math.nan)
    pooled = pool(x, mask, how)
    own = {"first": first_step, "mean": masked_mean, "last": last_step}[how]
    for row in (0, 1):
        real = [x[row, t] for t in range(6) if mask[row, t]]
        expected = {"first": real[0], "last": real[-1], "mean": sum(real) / len(real)}[how]
        torch.testing.assert_close(pooled[row], expected)
    assert torch.equal(pooled[2], torch.zeros(4))
    assert torch.equal(own(x, mask), pooled)


def test_a_pool_that_is_not_there():
    x, mask = torch.zeros(1, 3, 4), torch.tensor([[True, True, False]])
    with pytest.raises(ValueError, match=r"pool: expected one of .*, got 'max'"):
        pool(x, mask, "max")
    for how in POOLS:
        with pytest.raises(ValueError, match="mask: expected bool of shape"):
            pool(x, mask[:, :2], how)
