"""Tensors by the names that errors give them; on ranks, test_sharded.py goes over all refusals."""

import torch

from mmcontrast.placements import Given, tensors_of


def test_tensors_are_named_as_a_caller_would_name_them():
    x, y, z = (torch.full((), k) for k in range(3))
    found = list(tensors_of("levels", "levels", {"a": [(x, y), "no"], "b": {3: z}}))
    paths = ["levels['a'][0][0]", "levels['a'][0][1]", "levels['b'][3]"]
    assert found == [Given(path, "levels", v) for path, v in zip(paths, (x, y, z), strict=True)]
