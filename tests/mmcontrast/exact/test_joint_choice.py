"""Which way the joint contrast takes; compilers see one operator for each softmax."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from tests.mmcontrast.exact.ways import taken, transformed
from tests.mmcontrast.strategies import close, leaf, normal, presence

KINDS = {
    "shuffled": ({"negatives": "shuffled"}, "shuffled_in_blocks", "plain_shuffled"),
    "all": ({"negatives": "all"}, "negatives_of_all_tuples", "plain_negatives_of_all_tuples"),
    "volume": ({"score": "volume"}, "negatives_of_volumes", "plain_negatives_of_volumes"),
    "area": ({"score": "area"}, "negatives_of_volumes", "plain_negatives_of_volumes"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def features(n=6, dtype=torch.float64):
    return {name: leaf(normal(k, n, 4, dtype=dtype)) for k, name in enumerate("abc")}


@every_kind
def test_eager_mode_takes_tiles_and_transforms_the_plain_form(kind):
    (given, way, plain), rows = KINDS[kind], features()

    def call():
        return mm.joint_contrast(rows, anchor="a", **given).total

    assert taken(call) == [way]
    if kind != "shuffled":  # vmap asks what its random numbers are to be
        assert taken(lambda: transformed(lambda: call().detach())) == [plain]


@every_kind
def test_patterns_that_no_sample_has_are_skipped(kind):
    present = {"b": torch.tensor([True] * 5 + [False])}
    assert len(taken(lambda: mm.joint_contrast(features(), anchor="a", **KINDS[kind][0]))) == 1
    found = taken(
        lambda: mm.joint_contrast(features(), anchor="a", present=present, **KINDS[kind][0])
    )
    assert len(found) == 2


@every_kind
def test_shuffled_tuples_under_vmap_are_the_same_or_others_as_it_is_told(kind):
    x = torch.stack([torch.stack([*features().values()])] * 2).detach()

    def loss(x):
        return mm.joint_contrast(dict(zip("abc", x, strict=True)), **KINDS[kind][0]).total

    found = torch.vmap(loss, randomness="same")(x)
    close(found[0], found[1])


@every_kind
def test_on_the_meta_device_with_missing_modalities(kind):
    with FakeTensorMode():
        rows = {name: torch.ones(6, 4, device="meta", requires_grad=True) for name in "abc"}
        present = {"b": torch.ones(6, device="meta") > 0}
        mm.joint_contrast(rows, present=present, **KINDS[kind][0]).total.backward()
        assert all(x.grad.device.type == "meta" for x in rows.values())


@pytest.mark.parametrize("kind", ["shuffled", "volume"])
def test_compiled_whole_it_is_operators(kind):
    """With torch's own random numbers, the same in both where the seed is."""
    rows, present = features(), dict(zip("abc", presence(3, 6).values(), strict=True))

    def loss(rows, present):
        return mm.joint_contrast(rows, anchor="a", present=present, **KINDS[kind][0]).total

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    values = []
    for call in (loss, compiled):
        torch.manual_seed(0)
        total = call(rows, present)
        values.append((total.detach(), *torch.autograd.grad(total, list(rows.values()))))
    for found, expected in zip(*values, strict=True):
        close(found, expected)
