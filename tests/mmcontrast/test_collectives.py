"""What ranks exchange, as compilers see it; with other ranks in test_distributed.py."""

import pytest
import torch
import torch.distributed as dist

from mmcontrast import collectives


@pytest.fixture
def alone(tmp_path):
    """The name of a group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield dist.group.WORLD.group_name
    dist.destroy_process_group()


def test_operators_keep_to_what_they_say_of_shapes_and_gradients(alone):
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    operators = torch.ops.mmcontrast
    torch.library.opcheck(operators.gather.default, (x, alone, None), test_utils=CHECKS)
    torch.library.opcheck(operators.total.default, (x.mT, alone), test_utils=CHECKS)
    counts = torch.tensor([3])
    torch.library.opcheck(operators.sum_of_own.default, (x, 3, counts, alone), test_utils=CHECKS)
    orders = (2, 5, torch.device("cpu"), alone)
    torch.library.opcheck(operators.orders.default, orders, test_utils=CHECKS)


CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def test_gathering_and_summing_differentiate_twice(alone):
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda z: collectives.gather_by_name(z, alone, None)[0].sin(), x)
    torch.autograd.gradgradcheck(lambda z: collectives.total_by_name(z, alone).sin(), x)


def test_rows_that_are_not_as_many_as_a_mask_says_are_refused(alone):
    with pytest.raises(ValueError, match="x: expected 4 rows on all ranks, got 3"):
        collectives.gather_by_name(torch.zeros(3, 2), alone, 4)


def test_orders_are_drawn_as_they_are_without_an_operator(alone):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = collectives.orders_by_name(2, 50, torch.device("cpu"), alone)
        torch.manual_seed(3)
        expected = [torch.randperm(50) for _ in range(2)]
    assert torch.equal(found, torch.stack(expected))
