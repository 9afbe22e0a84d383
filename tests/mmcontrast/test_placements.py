"""DTensors that do not go together, and what else does not come with them."""

import pytest
import torch

from mmcontrast.placements import Given, tensors_of
from tests.ranks import launch


@pytest.mark.slow
def test_refusals_on_ranks():
    launch(3, "tests.ranks.sharded", "refusals")


def test_tensors_are_named_as_a_caller_would_name_them():
    x, y, z = (torch.full((), k) for k in range(3))
    found = list(tensors_of("levels", "levels", {"a": [(x, y), "no"], "b": {3: z}}))
    paths = ["levels['a'][0][0]", "levels['a'][0][1]", "levels['b'][3]"]
    assert found == [Given(path, "levels", v) for path, v in zip(paths, (x, y, z), strict=True)]
