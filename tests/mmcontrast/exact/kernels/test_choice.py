"""When the public losses take the kernels, and that nothing else changes by it."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import choose, kernels, sizes
from tests.mmcontrast.strategies import close

N, D = 12, 5
KEEP = torch.ones(N, N, dtype=torch.bool)
LOSSES = {
    "symmetric": lambda x, y, **o: mm.symmetric_info_nce(x, y, temperature=0.2, **o),
    "one_way": lambda x, y, **o: mm.info_nce(x, y, temperature=0.2, **o),
    "sigmoid": lambda x, y, **o: mm.sigmoid_contrast(x, y, **o),
    "sup_con": lambda x, y, **o: mm.sup_con(
        x + y, torch.arange(N, device=x.device) % 3, temperature=0.2, **o
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def rows(dtype=torch.float32, device="cpu"):
    source = torch.Generator().manual_seed(1)
    drawn = [torch.randn(N, D, generator=source) for _ in range(2)]
    return [x.to(device, dtype).requires_grad_() for x in drawn]


@pytest.fixture
def calls(monkeypatch):
    """The precisions that the kernels are called with, which small batches have too."""
    found = []

    def watched(kernel):
        def call(*args, **options):
            found.append(options["precision"])
            return kernel(*args, **options)

        return call

    for name in LOSSES:
        name += "_fused"
        monkeypatch.setattr(kernels, name, watched(getattr(kernels, name)))
    monkeypatch.setattr(sizes, "KERNELS", 1)
    monkeypatch.setattr(sizes, "SPLIT", 1)
    monkeypatch.setattr(
        "mmcontrast.exact.sizes.AT_ONCE", 0
    )  # of what is evaluated before it is asked
    return found


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, torch.linspace(0, 2, N)])
def test_the_value_and_the_gradients_are_the_same(
    name, reduction, weight, calls, device, monkeypatch
):
    weight = None if weight is None else weight.to(device)
    options = {"reduction": reduction, "weight": weight}
    results = []
    for least in (1, N * N + 1):
        monkeypatch.setattr(sizes, "KERNELS", least)
        inputs = rows(device=device)
        value = LOSSES[name](*inputs, **options)
        results.append((value, *torch.autograd.grad(value.sum(), inputs)))
    assert calls == ["ieee"]
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs, 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[(n, o) for n in ("one_way", "symmetric") for o in ({"decoupled": True}, {"prior": 0.1})],
        ("one_way", {"own_negatives": torch.randn(N, 2, D)}),
        ("one_way", {"own_negatives": torch.randn(N, 2, D), "decoupled": True, "prior": 0.1}),
        ("symmetric", {"within": True}),
    ],
)
def test_so_they_are_with_other_negatives_and_denominators(
    name, options, calls, device, monkeypatch
):
    own = options.get("own_negatives", torch.zeros(N, 0, D)).to(device).requires_grad_()
    options = options | ({"own_negatives": own} if "own_negatives" in options else {})
    results = []
    for least in (1, N * N + 1):
        monkeypatch.setattr(sizes, "KERNELS", least)
        inputs = *rows(device=device), own
        value = LOSSES[name](*inputs[:2], **options)
        results.append((value, *torch.autograd.grad(value, inputs, materialize_grads=True)))
    assert calls == ["ieee"]
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs, 1e-5, 1e-5)


@pytest.mark.parametrize("options", [{}, {"decoupled": True}, {"prior": 0.1}])
@pytest.mark.parametrize("loss", [mm.info_nce, mm.symmetric_info_nce])
def test_so_is_the_gradient_of_the_temperature(loss, options, calls, device, monkeypatch):
    found = []
    for least in (1, N * N + 1):
        monkeypatch.setattr(sizes, "KERNELS", least)
        temperature = torch.tensor(0.2, device=device, requires_grad=True)
        value = loss(*rows(device=device), temperature=temperature, **options)
        found += torch.autograd.grad(value, temperature)
    assert calls == ["ieee"]
    close(*found, 1e-5, 1e-5)


@every_loss
@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16")]
)
def test_rows_in_16_bits_are_multiplied_so(name, dtype, precision, calls, device):
    value = LOSSES[name](*rows(dtype, device))
    assert calls == [precision]
    assert value.dtype == torch.float32
    close(value, LOSSES[name](*(x.double() for x in rows(dtype, device))), 2e-2, 2e-2)


@every_loss
def test_what_the_kernels_cannot_do_takes_the_other_path(name, calls, monkeypatch):
    monkeypatch.setattr(choose, "INTERPRETED", True)
    loss = LOSSES[name]
    loss(*rows(torch.float64))
    loss(*rows(), keep=KEEP)
    x, y = (z.detach() for z in rows())
    torch.func.grad(lambda z: loss(z, y))(x)
    monkeypatch.setattr(sizes, "KERNELS", N * N + 1)
    loss(*rows())
    monkeypatch.setattr(sizes, "KERNELS", 1)
    monkeypatch.setattr(choose, "INTERPRETED", False)
    loss(*rows())
    monkeypatch.setattr(choose, "INTERPRETED", True)
    monkeypatch.setenv("MMCONTRAST_KERNELS", "0")
    loss(*rows())
    assert calls == []


def test_a_compiled_loss_takes_the_kernels_too(calls, device):
    """The graph holds one operator, whose body chooses by the tensors that it meets."""
    loss = LOSSES["symmetric"]
    expected, inputs = loss(*rows(device=device)), rows(device=device)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    close(compiled(*inputs), expected, 1e-6, 1e-6)
    compiled(*inputs).backward()
    assert len(calls) == 3
    plain = rows(device=device)
    loss(*plain).backward()
    for ours, theirs in zip(inputs, plain, strict=True):
        close(ours.grad, theirs.grad, 1e-6, 1e-6)
