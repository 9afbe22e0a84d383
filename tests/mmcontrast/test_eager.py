"""Which tensors have values to read."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmcontrast.eager import is_eager, known


def test_which_tensors_have_values_to_read():
    x = torch.ones(2)
    assert is_eager()
    assert is_eager(x, torch.nn.Parameter(x))
    assert not is_eager(x, x.to("meta"))
    with FakeTensorMode():
        assert not is_eager(torch.ones(2))
        assert not known(torch.ones(()) > 0)
    assert not torch.func.vmap(lambda z: z if is_eager() else z - 1)(x).any()
    assert known(x.sum() == 2)
    assert not known(x.sum() == 3)
