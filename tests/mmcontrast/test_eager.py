"""Which tensors have values to read."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from mmcontrast.eager import in_cuda_graph, is_batched, is_eager, known, known_finite


def test_which_tensors_have_values_to_read():
    x = torch.ones(2)
    assert is_eager()
    assert is_eager(x, torch.nn.Parameter(x))
    assert not is_eager(x, x.to("meta"))
    with FakeTensorMode():
        assert not is_eager(torch.ones(2))
        assert not known(torch.ones(()) > 0)
    assert not torch.func.vmap(lambda z: z if is_eager() else z - 1)(x).any()
    with forward_ad.dual_level():
        assert not is_eager()
    assert known(x.sum() == 2)
    assert not known(x.sum() == 3)


def test_which_numbers_are_known_to_be_finite():
    x = torch.tensor([3e38, 3e38], requires_grad=True)  # their sum is not
    assert known_finite(x)
    assert known_finite(x[0])
    assert known_finite(x[:0])
    for value in (torch.inf, torch.nan):
        assert not known_finite(torch.tensor([1.0, value]))
        assert not known_finite(torch.tensor(value))
    assert not known_finite(x.to("meta"))
    assert not torch.func.vmap(lambda z: z * 0 + known_finite(z))(torch.ones(2)).any()


def test_no_cuda_graph_records_what_is_done_on_other_devices():
    assert not in_cuda_graph(torch.ones(2))
    assert not in_cuda_graph(torch.ones(2, device="meta"))


def test_which_tensors_are_many_at_once():
    x, said = torch.ones(2, requires_grad=True), []
    assert not is_batched(x)
    torch.func.vmap(lambda z: z if said.append(is_batched(z)) else z * 0)(torch.ones(2))
    y = 2 * x
    y.register_hook(lambda upstream: said.append(is_batched(upstream)))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True)
    assert said == [True, True]
