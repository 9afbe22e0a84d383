"""The kernels' losses and gradients beside the formulas in float64, at sizes no block divides."""

import math

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import kernels
from mmcontrast.exact.kernels import launch
from mmcontrast.exact.kernels.blocks import generation
from tests import oracles
from tests.mmcontrast.exact.kernels.cases import (
    BIAS,
    BLOCKS,
    HALVES,
    LOSSES,
    errors,
    given,
    in_double,
    labels,
    targets,
)
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import close

# A row's logits are off by some roundings of its largest; a gradient in 16 bits is rounded entry by
# entry, which Triton's interpreter does towards zero.
EPS = {"ieee": 2e-6, "tf32": 2**-10, "bf16": 2e-6, "fp16": 2e-6}
ROUNDING = {"ieee": 2e-6, "tf32": 2**-10, "bf16": 2**-7, "fp16": 2**-10}
every_loss = pytest.mark.parametrize("loss", LOSSES)


def upstream(n):
    """What the losses count for: more and less, nothing, and the other way."""
    return torch.linspace(-0.5, 1.5, 2 * n + 3).roll(n) * (torch.arange(2 * n + 3) % 4 != 1)


def check(loss, x, y, temperature, precision="ieee", blocks=BLOCKS):
    found = errors(loss, x, y, temperature, upstream(len(x)), precision=precision, blocks=blocks)
    assert found[0] <= EPS[precision]
    assert max(found[1:]) <= ROUNDING[precision]


@every_loss
@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_losses_and_gradients(loss, precision, temperature, device):
    check(loss, *given("random", 19, 10, precision, device), temperature, precision)


@every_loss
@pytest.mark.parametrize(
    ("n", "d", "blocks"),
    [
        (2, 1, BLOCKS),
        (5, 3, BLOCKS),
        (16, 16, BLOCKS),
        (35, 7, kernels.Blocks(16, 32, 16, 16, 4, 1)),
        (37, 40, kernels.Blocks(32, 16, 16, 32, 4, 1)),
    ],
)
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_sizes(loss, n, d, blocks, temperature, device):
    check(loss, *given("random", n, d, "ieee", device), temperature, blocks=blocks)


@every_loss
def test_the_table_has_blocks(loss, device):
    check(loss, *given("random", 70, 40, "ieee", device), 0.07, blocks=None)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (10, 0)])
@pytest.mark.parametrize(("precision", "d"), [("bf16", 300), ("bf16", 520), ("tf32", 70)])
def test_the_blocks_of_other_gpus(capability, precision, d, device, monkeypatch):
    """Each GPU runs the blocks of all that have no more shared memory."""
    if device.type == "cuda":
        room = generation(torch.cuda.get_device_capability()).shared
        if generation(capability).shared > room:
            pytest.skip(f"blocks of compute capability {capability} do not fit this GPU")
    monkeypatch.setattr(launch, "capability", lambda device: capability)
    check("symmetric", *given("random", 20, d, precision, device), 0.07, precision, blocks=None)


@every_loss
@pytest.mark.parametrize("kind", ["aligned", "collapsed", "duplicated", "zero"])
@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_rows_of_all_kinds(loss, kind, temperature, device):
    check(loss, *given(kind, 18, 6, "ieee", device), temperature)


@every_loss
@pytest.mark.parametrize("precision", ["ieee", "bf16", "fp16"])
def test_huge_logits_are_finite(loss, precision, device):
    x, y = given("huge", 18, 6, precision, device)
    found = errors(loss, x, y, 0.01, torch.ones(40), precision=precision, blocks=BLOCKS)
    assert found[0] <= 1e-6
    assert max(found) < 1  # and not NaN; a softmax of logits of a million is all or nothing


@every_loss
@pytest.mark.parametrize("kind", ["random", "aligned", "collapsed", "duplicated"])
def test_losses_are_never_negative(loss, kind, device):
    x, y = given(kind, 18, 6, "ieee", device)
    for temperature in (0.01, 0.07):
        assert (LOSSES[loss][0](x, y, torch.tensor(temperature), blocks=BLOCKS) >= 0).all()


def test_a_tiny_loss_keeps_its_digits(device):
    """The pairs lead by 40 and more: log-sum-exp minus the positive would be 0 or negative."""
    x = torch.eye(20, dtype=torch.float64)[:18]
    y = torch.nn.functional.normalize(x + 0.2 * torch.roll(x, 1, 1), dim=1)
    x, y = (z.float().to(device).requires_grad_() for z in (x, y))
    double = in_double(x, y)
    own, options = torch.arange(len(x), device=device), {"temperature": 0.02, "normalize": None}
    plain = options | {"reduction": "none", "chunk_size": 2 * len(x)}
    couples, batch, exact = own.repeat(2), torch.cat([x, y]), torch.cat(double)
    for losses, expected in (
        (
            kernels.symmetric_fused(x, y, 0.02, blocks=BLOCKS),
            mm.symmetric_info_nce(*double, **plain),
        ),
        (
            kernels.one_way_fused(x, y, own, 0.02, None, blocks=BLOCKS),
            mm.info_nce(*double, **plain),
        ),
        (
            kernels.sup_con_fused(batch, couples, blocks=BLOCKS, **options)[0],
            mm.sup_con(exact, couples, **plain),
        ),
    ):
        assert 0 < expected.max() < 1e-15
        torch.testing.assert_close(losses.double(), expected, rtol=1e-4, atol=0)
        found = torch.autograd.grad(losses.sum(), (x, y))
        sought = torch.autograd.grad(expected.sum(), double)
        for a, b in zip(found, sought, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-25)


@every_loss
def test_alone(loss, device):
    """One sample has no negatives, or those candidates only that are nobody's."""
    x, y = given("random", 1, 5, "ieee", device)
    check(loss, x, y, 0.1)


def test_one_pair_is_worth_nothing(device):
    x, y = given("random", 1, 5, "ieee", device)
    loss = kernels.symmetric_fused(x, y[:1], 0.1, blocks=BLOCKS)
    assert loss.tolist() == [0.0]
    for gradient in torch.autograd.grad(loss.sum(), (x, y)):
        assert not gradient.any()


@every_loss
def test_nobody(loss, device):
    x, y = torch.zeros(2, 0, 5, device=device).unbind()
    x, y = x.requires_grad_(), y.requires_grad_()
    t = torch.tensor(0.1, device=device, requires_grad=True)
    losses = LOSSES[loss][0](x, y, t, blocks=BLOCKS)
    assert losses.shape == (0,)
    gradients = torch.autograd.grad(losses.sum(), (x, y, t))
    assert [g.shape for g in gradients] == [(0, 5), (0, 5), ()]
    assert gradients[2] == 0


@pytest.mark.parametrize("loss", ["one_way", "sigmoid"])
def test_a_weighted_sum_has_its_gradient_at_once(loss, device):
    x, y = given("random", 19, 10, "ieee", device)
    weight = (torch.arange(19.0) % 3).to(device)
    ours = LOSSES[loss][0]
    t = torch.tensor(0.1, device=device, requires_grad=True)
    each = ours(x, y, t, blocks=BLOCKS)
    together = ours(x, y, t, weight=weight, blocks=BLOCKS)
    torch.testing.assert_close(together, (each * weight).sum())
    found = torch.autograd.grad(2 * together, (x, y, t))
    expected = torch.autograd.grad(2 * (each * weight).sum(), (x, y, t))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@every_loss
def test_values_are_those_of_the_loops(loss, device):
    """The oracles know nothing of tensors."""
    x, y = given("random", 6, 4, "ieee", device)
    a, b = (z.detach().cpu().double().numpy() for z in (x, y))
    options = {"temperature": 0.2, "normalize": None, "reduction": "none"}
    both = [*a, *b]
    expected = {
        "symmetric": lambda: oracles.symmetric_info_nce(a, b[:6], **options),
        "one_way": lambda: oracles.info_nce(a, b, targets(6).tolist(), **options),
        "sigmoid": lambda: oracles.sigmoid_contrast(a, b, bias=BIAS, **options),
        "sup_con": lambda: oracles.sup_con(both, labels(len(both)).tolist(), **options),
    }[loss]()
    close(LOSSES[loss][0](x, y, 0.2, blocks=BLOCKS), expected, atol=1e-5, rtol=0)


@every_loss
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_gradients_of_any_size_in_16_bits(loss, precision, size, device):
    """Of a mean over a million samples, say: a float16 would not hold the shares themselves."""
    x, y = given("random", 19, 10, precision, device)
    losses = LOSSES[loss][0](x, y, 0.1, precision=precision, blocks=BLOCKS).sum()
    large = torch.autograd.grad(losses, (x, y), retain_graph=True)
    for a, b in zip(torch.autograd.grad(losses * size, (x, y)), large, strict=True):
        error = (a / size - b).abs().max() / b.abs().max()
        assert error <= ROUNDING[precision]


@every_loss
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_rows_in_16_bits(loss, precision, device):
    """Taken as they are: the same losses, and gradients in their own dtype."""
    x, y = given("random", 19, 10, precision, device)
    short = [z.detach().to(HALVES[precision]).requires_grad_() for z in (x, y)]
    losses, same = (
        LOSSES[loss][0](*z, 0.1, precision=precision, blocks=BLOCKS) for z in ((x, y), short)
    )
    assert same.dtype == torch.float32
    assert torch.equal(losses, same)
    found, expected = (
        torch.autograd.grad(a.mean(), z) for a, z in ((same, short), (losses, (x, y)))
    )
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == HALVES[precision]
        assert torch.equal(a, b.to(a.dtype))


@every_loss
def test_the_same_input_gives_the_same_bits(loss, device):
    x, y = given("random", 37, 20, "bf16", device)

    def once():
        t = torch.tensor(0.05, device=device, requires_grad=True)
        losses = LOSSES[loss][0](x, y, t, precision="bf16", blocks=BLOCKS)
        return losses, *torch.autograd.grad(losses.sum(), (x, y, t))

    for a, b in zip(once(), once(), strict=True):
        assert torch.equal(a, b)


@every_loss
def test_second_derivatives_are_those_of_the_plain_form(loss, device):
    ours, plain = LOSSES[loss]
    x, y = given("random", 7, 4, "ieee", device)
    t = torch.tensor(0.5, device=device, requires_grad=True)

    def twice(function, x, y, t):
        (first,) = torch.autograd.grad(function(x, y, t).square().sum(), x, create_graph=True)
        return first, *torch.autograd.grad(first.square().sum(), (x, y, t))

    found = twice(lambda *inputs: ours(*inputs, blocks=BLOCKS), x, y, t)
    expected = twice(plain, *in_double(x, y, t))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@every_loss
def test_only_what_is_asked_for(loss, device):
    """Each input's gradient alone is what it is beside the others."""
    x, y = given("random", 9, 5, "ieee", device)
    t = torch.tensor(0.1, device=device, requires_grad=True)
    ours = LOSSES[loss][0]
    together = torch.autograd.grad(ours(x, y, t, blocks=BLOCKS).sum(), (x, y, t))
    for k in range(3):
        inputs = [z if i == k else z.detach() for i, z in enumerate((x, y, t))]
        (alone,) = torch.autograd.grad(ours(*inputs, blocks=BLOCKS).sum(), inputs[k])
        torch.testing.assert_close(alone, together[k])
    assert not ours(x.detach(), y.detach(), t.detach(), blocks=BLOCKS).requires_grad


@every_loss
def test_the_temperature_has_no_gradient_made_where_none_is_wanted(loss, device, monkeypatch):
    made = []
    way = launch.temperature_gradient_of
    monkeypatch.setattr(launch, "temperature_gradient_of", lambda *z: made.append(1) or way(*z))
    x, y = given("random", 9, 5, "ieee", device)
    for temperature, times in ((0.1, 0), (torch.tensor(0.1, requires_grad=True), 1)):
        LOSSES[loss][0](x, y, temperature, blocks=BLOCKS).sum().backward()
        assert len(made) == times


class Seen(Made):
    """And whether a value was read on the host."""

    read = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.read |= function is torch.ops.aten._local_scalar_dense.default
        return super().__torch_dispatch__(function, types, args, kwargs)


@every_loss
def test_nothing_of_the_size_of_all_pairs_is_made_and_nothing_is_read(loss, device):
    x, y = given("random", 150, 4, "ieee", device)
    t = torch.tensor(0.05, device=device, requires_grad=True)
    blocks = kernels.Blocks(64, 64, 16, 16, 4, 1)
    with Seen() as seen:
        LOSSES[loss][0](x, y, t, blocks=blocks).sum().backward()
    parts = 4  # of the sums and gradients that so few rows are cut into on the CPU, or on a GPU
    assert seen.largest <= 2 * parts * 153 * 4 or device.type == "cuda"
    assert seen.largest < 150 * 150
    assert not seen.read or loss == "sup_con"  # which reads the classes


def test_the_softplus_of_zero_is_log_2_to_the_last_bit(device):
    x = torch.zeros(11, 4, device=device)  # a loss is 11 of it
    losses = kernels.sigmoid_fused(x, x, 1.0, 0.0, None, blocks=BLOCKS)
    exact = losses.new_tensor(11 * math.log(2)).expand(11)
    torch.testing.assert_close(losses, exact, rtol=0, atol=2**-21)  # one bit of a number below 8
