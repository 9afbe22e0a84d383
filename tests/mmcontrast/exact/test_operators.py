"""Under a compiler a loss is one operator: the same value, gradients and memory for any size."""

import math

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import mmcontrast as mm
from mmcontrast import supervised
from mmcontrast.exact import operators, sizes
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import normal, of_any_rows

OPERATORS = torch.ops.mmcontrast


def leaf(seed, *shape):
    return normal(seed, *shape).float().requires_grad_()


def number(value):
    return torch.tensor(value, requires_grad=True)


def samples(name):
    """Inputs of an operator: with 0-d weights, with (B,) ones, and without."""
    x, y = leaf(1, 5, 3), leaf(2, 7, 3)
    weights = (torch.tensor(0.2), leaf(3, 5), None)
    targets = torch.tensor([6, 0, -100, 2, 2])
    masks = normal(4, 5, 7) > 0, normal(5, 5, 7) > -1
    scores = torch.arange(5.0)[:, None] % 3, torch.arange(7.0)[:, None] % 4
    classes = torch.tensor([0, 1, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, -100, 5])
    chances = torch.full((5,), 0.1), torch.full((5,), 6.0)
    each = {
        "weighted_one_way": lambda w: (
            *(x, y, number(0.5), None, w, targets, None, "", "", False, None, None),
        ),
        "weighted_both_ways": lambda w: (
            *(x, leaf(2, 5, 3), number(0.5), leaf(6, 2, 5), w, 2, "", "", False, None, None),
        ),
        "weighted_sigmoid": lambda w: (
            *(x, y, number(0.5), number(-1.0), leaf(7, 5, 7), w, *masks),
            *(torch.arange(5) != 2, 0, None, "", ""),
        ),
        "weighted_sup_con": lambda w: (x, number(0.5), w, targets, 2, "", ""),
        "weighted_ranks": lambda w: (
            *(x, y, number(0.5), w, *scores, scores[0][:, 0] > 0, scores[1][:, 0] > 0),
            *(None, 1e-7, 1, 2),
        ),
        "weighted_one_way_masked": lambda w: (
            *(x, y, number(0.5), leaf(7, 5, 7), leaf(6, 5), w, targets, masks[1], 2, False),
            *chances,
        ),
        "weighted_both_ways_masked": lambda w: (
            *(x, leaf(2, 5, 3), number(0.5), leaf(7, 5, 5), None, w, masks[1][:, :5], 0, 2, ""),
            *(True, None, None),
        ),
        "weighted_masked": lambda w: (
            *(x, y, number(0.5), None, leaf(6, 5), w, *classes, masks[1], classes[1] >= 0, 1, 2),
            *("out", True, None, None),
        ),
    }
    for weight in weights:
        given = each[name](weight)
        place = [x is weight for x in given].index(True)
        all_of_them = [x is not None for x in given[: place + 1]]
        for needed in ([False] * (place + 1), all_of_them):
            if weight is not None or not any(needed):
                yield *given, needed


NAMES = ["weighted_one_way", "weighted_both_ways", "weighted_sigmoid", "weighted_sup_con"]
NAMES += ["weighted_one_way_masked", "weighted_both_ways_masked", "weighted_masked"]
NAMES += ["weighted_ranks"]


# The check itself reads it, of its copies of the inputs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", NAMES)
def test_operators_do_what_they_say_to_compilers(name):
    for given in samples(name):
        torch.library.opcheck(getattr(OPERATORS, name).default, given)


COLUMNS = torch.tensor([[0, 1], [0, 1], [math.nan, 1], [1, 1], [1, 1]])


@pytest.mark.parametrize("ids", [torch.tensor([0, 1, 0, -100, 1]), COLUMNS])
def test_operators_without_gradients_do_what_they_say_to_compilers(ids):
    x, y, targets = normal(1, 5, 3), normal(2, 7, 3), torch.tensor([6, 0, -100, 2, 2])
    allowed, theirs = normal(4, 5, 7) > 0, ids[torch.tensor([4, 0, 1, 2, 3, 0, 0])]
    free, limited, all_of_them = (None,) * 4, (targets, allowed), (targets, allowed, ids, theirs)
    none = (None,) * 5
    for name, *given in (
        ("have_positives", ids, ""),
        ("hardest_triplets", x, ids, True, None, "", 0, None),
        ("hardest_triplets", x.float(), ids, False, 2, "", 0, None),
        ("hardest_triplets", x, ids, True, None, "", 1, 0.5),
        ("hardest_candidates", x, x.float(), 3, 2, *free, "before", True, None, 0, "", 0, *none),
        (
            "hardest_candidates",
            x,
            y,
            9,
            8,
            *limited,
            None,
            None,
            "after",
            False,
            2,
            0,
            "",
            0,
            *none,
        ),
        ("hardest_candidates", x, y, 1, 0, *all_of_them, "never", True, 2, 0, "", 0, *none),
        (
            "hardest_candidates",
            x,
            y,
            3,
            0,
            *free,
            "before",
            True,
            None,
            0,
            "",
            2,
            9.0,
            0.1,
            *none[:3],
        ),
        (
            "hardest_candidates",
            x,
            y,
            3,
            1,
            *free,
            "before",
            True,
            2,
            0,
            "",
            0,
            *none[:2],
            0.1,
            0.1,
            2.0,
        ),
    ):
        torch.library.opcheck(getattr(OPERATORS, name).default, given)


def lower(x, y):
    return torch.ones(x.shape[0], y.shape[0], dtype=torch.bool, device=x.device).tril()


def ranked(x, y, **settings):
    scores = torch.arange(x.shape[0]) % 5, torch.arange(y.shape[0]) % 3
    return mm.rank_n_contrast(x, scores[0], y, scores[1], distance=mm.manhattan, **settings)


def by_class(x, y, **settings):
    """A third of the samples is alone or unlabelled."""
    places = torch.arange(x.shape[0])
    ids = torch.where(places % 3 == 0, -places * 100, places % 4)
    return mm.sup_con(x + y, ids, **settings)


MASKED = {
    "one way": lambda x, y, **k: mm.info_nce(x, y, keep=lower(x, y), **k),
    "both ways": lambda x, y, **k: mm.symmetric_info_nce(x, y, keep=lower(x, y), **k),
    "sigmoid": lambda x, y, **k: mm.sigmoid_contrast(x, y, keep=lower(x, y), **k),
    "bool": lambda x, y, **k: mm.info_nce(x, y, positives=lower(x, y), keep=~lower(y, x).T, **k),
    "soft": lambda x, y, **k: mm.info_nce(x, y, positives=(x @ y.T).detach().exp(), **k),
    "classes": lambda x, y, **k: mm.sup_con(
        x, torch.arange(x.shape[0]) // 3, y, torch.arange(y.shape[0]) // 2, **k
    ),
}
LOSSES = {
    "one way": mm.info_nce,
    "both ways": mm.symmetric_info_nce,
    "sigmoid": mm.sigmoid_contrast,
    "by class": by_class,
    "ranks": ranked,
}
SETTINGS = [{}, {"reduction": "sum", "chunk_size": 32}, {"reduction": "none"}]


def found(loss, x, y, t):
    """The value and all gradients, under an upstream that is not 1."""
    x, y, t = (z.detach().clone().requires_grad_() for z in (x, y, t))
    value = loss(x, y, t)
    upstream = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return value.detach(), *torch.autograd.grad(value, (x, y, t), upstream)


def inputs(n):
    return normal(n, n, 3), normal(n + 1, n, 3), torch.tensor(0.5, dtype=torch.float64)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_compiled_is_eager_for_all_sizes_after_two_compilations(loss):
    compiled_is_eager(loss, SETTINGS)


@pytest.mark.parametrize("loss", MASKED.values(), ids=MASKED)
def test_compiled_masks_are_eager_ones_for_all_sizes(loss):
    compiled_is_eager(loss, SETTINGS[:1], backend="eager", marked=True)


def compiled_is_eager(loss, settings, backend="aot_eager", marked=False):
    """After two compilations, or one if the sizes are marked."""

    def call(x, y, t):
        weight = x.detach()[:, 0].exp()
        values = (loss(x, y, temperature=t, weight=weight, **each) for each in settings)
        return torch.cat([value.reshape(-1) for value in values])

    torch._dynamo.reset()
    counters.clear()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(call, backend=counter, fullgraph=True)
    if marked:
        compiled = of_any_rows(compiled)
    for n in (4, 5, 33, 300, 2):
        given = inputs(n)
        for mine, truth in zip(found(compiled, *given), found(call, *given), strict=True):
            torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-14)
    assert counters["stats"]["unique_graphs"] == 2 - marked
    targets = [str(node.target) for node in counter.graphs[-1].graph.nodes]
    assert sum("weighted" in target for target in targets) == len(settings)


def test_a_schedule_of_numbers_is_two_compilations():
    def call(x, y, number):
        loss = mm.sigmoid_contrast(x, y, temperature=number, bias=-3 * number)
        return loss + mm.info_nce(x, y, temperature=number)

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, backend=counter, fullgraph=True)
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    for temperature in (0.5, 0.4, 0.3, 0.2):
        mine, truth = compiled(x, y, temperature), call(x, y, temperature)
        torch.testing.assert_close(mine, truth, rtol=1e-12, atol=0)
    assert counter.frame_count == 2


@pytest.mark.parametrize("wrong", [6, -5])
def test_an_operator_refuses_targets_that_a_compiler_cannot_read(wrong):
    def call(x, targets, keep):
        plain = mm.info_nce(x, x, targets, reduction="none", chunk_size=2)
        return plain + mm.info_nce(x, x, targets, keep=keep, reduction="none")

    torch._dynamo.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    x, keep = normal(1, 6, 3), torch.ones(6, 6, dtype=torch.bool)
    right = torch.tensor([3, -100, 0, 1, 5, 4])
    torch.testing.assert_close(compiled(x, right, keep), call(x, right, keep), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match=f"targets: expected indices from 0 to 5, .* got {wrong}"):
        compiled(x, torch.tensor([wrong, -100, 0, 1, 5, 4]), keep)


def test_gradients_are_contiguous_as_compilers_are_told():
    """Also those of rows that are not."""
    x, y = (normal(seed, 3, 5).mT for seed in (1, 2))
    given = x, y, *torch.tensor([0.5, -1]).double(), None, torch.ones(()).double(), None, None
    wanted = [True, True, *[False] * 4]
    _, *slopes = OPERATORS.weighted_sigmoid(*given, None, 0, 2, "", "", wanted)
    assert [slope.is_contiguous() for slope in slopes] == [True, True]


def test_hooks_of_the_caller_do_not_see_what_an_operator_keeps_for_itself():
    seen = []
    with (
        torch.autograd.graph.saved_tensors_hooks(seen.append, lambda _: seen[-1]),
        operators.recording(),
    ):
        x = torch.ones(2, requires_grad=True)
        (slope,) = torch.autograd.grad(x.square().sum(), x)
    assert slope.tolist() == [2, 2]
    assert not seen


def test_a_region_that_is_compiled_once_may_hold_a_loss():
    region = torch.compiler.nested_compile_region(lambda x, y: mm.info_nce(x, y))
    both = torch.compile(lambda x, y: region(x, y) + region(y, x), backend="aot_eager")
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    truth = mm.info_nce(x, y) + mm.info_nce(y, x)
    torch.testing.assert_close(both(x, y), truth, rtol=1e-12, atol=0)


def test_compiled_takes_the_memory_of_eager():
    """A matrix of all similarities would take 18 MB."""
    compiled = torch.compile(by_class, backend="aot_eager", fullgraph=True)
    given = inputs(1500)

    def of(loss):
        return peak(lambda: found(lambda x, y, t: loss(x, y, temperature=t), *given))

    of(compiled)
    assert of(compiled) <= 1.1 * of(by_class)


NAN = math.nan
KINDS = {
    "unlabelled": torch.tensor([3, 3, -100, 7, 3, 7, 5]),
    "NaN": torch.tensor([1.0, NAN, -100, 1, NAN, 2, 2]),
    "two columns": torch.tensor([[0, 1], [0, 1], [-100, 1], [1, 0], [1, 0], [1, 1], [0, 1]]),
    "all alone": torch.arange(7),
    "one class": torch.zeros(7, dtype=torch.uint8),
    "none": torch.full((7,), -100),
    "no samples": torch.zeros(0, dtype=torch.int64),
}
WAYS = {
    "at once": {},
    "tiles": {"SUPCON_SIDE": {"cpu": 3, "other": 3}},
    "blocks": {"SUPCON_RANKS": {"cpu": 0, "other": 0}},
}


@pytest.mark.parametrize("ids", KINDS.values(), ids=KINDS)
def test_sup_con_as_an_operator_takes_labels_of_every_kind(ids, monkeypatch):
    """As eager mode does, also where samples without a label are NaN, and in every way."""
    n = len(ids)
    x = torch.where(mm.labelled(ids)[:, None], normal(1, n, 3), NAN).requires_grad_()
    t, weight = torch.tensor(0.3).double().requires_grad_(), normal(2, n).abs().requires_grad_()

    def of(**settings):
        value = mm.sup_con(x, ids, temperature=t, weight=weight, **settings)
        upstream = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
        return value, *torch.autograd.grad(value, (x, t, weight), upstream, materialize_grads=True)

    for reduction in ("mean", "sum", "none"):
        with monkeypatch.context() as patch:
            expected = of(reduction=reduction)
            for module in (supervised, operators):
                patch.setattr(module, "calls_operators", lambda: True)
            for way in WAYS.values():
                for name, size in way.items():
                    patch.setattr(sizes, name, size)
                for mine, truth in zip(of(reduction=reduction), expected, strict=True):
                    torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-13)


def mined(x, y, ids):
    first = mm.hard_negatives(x, y, 1, labels=ids)
    second = mm.hard_negatives(
        *(x, y, 3), targets=ids, allowed=ids[:, None] != ids, exclude_positive="after", chunk_size=7
    )
    later = mm.hard_negatives(x, y, 1, skip=1)
    return *first, *second, *later, *mm.hard_triplets(x, ids)


def test_compiled_miners_are_eager_ones_for_all_sizes():
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    counters.clear()
    compiled = of_any_rows(torch.compile(mined, backend=counter, fullgraph=True))
    for n in (4, 5, 33, 500, 3):
        given = normal(n, n, 3).requires_grad_(), normal(n + 1, n, 3), torch.arange(n) % 3
        for mine, truth in zip(compiled(*given), mined(*given), strict=True):
            torch.testing.assert_close(mine, truth)
    assert counters["stats"]["unique_graphs"] == 1
    given = normal(1, 1024, 3), normal(2, 1024, 3), torch.arange(1024) % 3
    assert peak(lambda: compiled(*given)) <= 1.1 * peak(lambda: mined(*given))


def test_exported_miners_take_any_size():
    class Miner(torch.nn.Module):
        def forward(self, x, y, ids):
            return mined(x, y, ids)

    size = {0: torch.export.Dim("size", min=3, max=4096)}
    given = normal(1, 8, 3), normal(2, 8, 3), torch.arange(8) % 3
    program = torch.export.export(Miner(), given, dynamic_shapes=(size, size, size))
    for n in (3, 600):
        given = normal(n, n, 3), normal(n + 1, n, 3), torch.arange(n) % 3
        for mine, truth in zip(program.module()(*given), mined(*given), strict=True):
            torch.testing.assert_close(mine, truth)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_exported_programs_take_any_size_and_can_be_trained(loss):
    class Program(torch.nn.Module):
        def forward(self, x, y):
            return loss(x, y, temperature=0.5)

    size = torch.export.Dim("size", min=2, max=4096)
    given = normal(1, 8, 3), normal(2, 8, 3)
    program = torch.export.export(Program(), given, dynamic_shapes=({0: size}, {0: size}))
    for n in (3, 8, 300):
        x, y = normal(n, n, 3).requires_grad_(), normal(n + 1, n, 3).requires_grad_()
        mine, truth = program.module()(x, y), loss(x, y, temperature=0.5)
        torch.testing.assert_close(mine, truth, rtol=1e-12, atol=0)
        pairs = zip(*(torch.autograd.grad(v, (x, y)) for v in (mine, truth)), strict=True)
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)
        # The second derivative, which only eager mode has.
        twice = [
            torch.autograd.grad(v, x, create_graph=True)[0].square().sum()
            for v in (program.module()(x, y), loss(x, y, temperature=0.5))
        ]
        a, b = (torch.autograd.grad(v, y)[0] for v in twice)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_an_exported_mask_by_function_takes_any_size():
    """Its ids are no shorter integers where fewer samples would allow it."""

    class Loss(torch.nn.Module):
        def forward(self, x, y, ids):
            return mm.symmetric_info_nce(x, y, keep=mm.different_id(ids))

    size = {0: torch.export.Dim("size", min=2)}
    given = normal(1, 8, 3), normal(2, 8, 3), torch.arange(8) % 5
    program = torch.export.export(Loss(), given, dynamic_shapes=(size, size, size)).module()
    for n in (2, 70):
        given = normal(1, n, 3), normal(2, n, 3), torch.arange(n) % 5
        torch.testing.assert_close(program(*given), Loss()(*given))


def test_an_exported_program_that_gets_one_tensor_twice_has_the_same_gradient_by_a_graph():
    class Program(torch.nn.Module):
        def forward(self, x, y):
            return mm.info_nce(x, y, normalize=None)

    module = torch.export.export(Program(), (normal(1, 4, 3), normal(2, 4, 3))).module()
    x = normal(3, 4, 3).requires_grad_()
    (plain,) = torch.autograd.grad(module(x, x), x)
    (differentiable,) = torch.autograd.grad(module(x, x), x, create_graph=True)
    torch.testing.assert_close(differentiable, plain, rtol=1e-9, atol=1e-12)


# --- around and inside a compiled loss -----------------------------------------------------------


def hybrid(x, y, temperature):
    classes = torch.arange(x.shape[0]) % 2
    return mm.hybrid_contrast({"text": x, "audio": y}, classes).total * temperature


def autocast(call, *inputs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return call(*inputs)


def checkpointed(call, *inputs):
    return checkpoint(call, *inputs, use_reentrant=False)


def agree(compiled, call, *inputs):
    each = []
    for function in (compiled, call):
        given = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        value = function(*given)
        wanted = [x for x in given if x.requires_grad and value.requires_grad]
        slopes = torch.autograd.grad(3 * value, wanted) if wanted else ()
        each.append((value.detach(), *slopes))
    for found, expected in zip(*each, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# What is around, and which gradients are wanted, is seen by what makes a function an operator: by
# `as_operator` and, for the hybrid loss, `as_operator_run_twice`. No loss has a part in that; what
# AOT autograd makes of the others' operators, `opcheck` above has seen.
BY_BOTH = {"one way": LOSSES["one way"], "hybrid": hybrid}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # Dynamo's own tracing
@pytest.mark.parametrize("around", [autocast, checkpointed])
@pytest.mark.parametrize("loss", BY_BOTH.values(), ids=BY_BOTH)
def test_compiled_with_what_is_around_is_eager_with_it(loss, around):
    def call(x, y, t):
        return loss(x, y, temperature=t)

    def outside(x, y, t):
        return around(call, x, y, t)

    torch._dynamo.reset()
    given = leaf(1, 7, 3), leaf(2, 7, 3), number(0.5)
    agree(torch.compile(outside, backend="aot_eager", fullgraph=True), outside, *given)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    agree(lambda *x: around(compiled, *x), outside, *given)


@pytest.mark.parametrize("loss", BY_BOTH.values(), ids=BY_BOTH)
@torch._dynamo.config.patch(recompile_limit=32)  # one for each kind
def test_compiled_inputs_of_all_kinds(loss):
    def call(x, y, t):
        return loss(x, y, temperature=t)

    torch._dynamo.reset()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    x, y, t = leaf(1, 7, 3), leaf(2, 7, 3), number(0.5)
    agree(compiled, call, leaf(1, 0, 3), leaf(2, 0, 3), t)
    agree(compiled, call, leaf(1, 1, 3), leaf(2, 1, 3).half().detach(), t)
    agree(compiled, call, x.bfloat16().detach(), y, t.detach())
    # In float64 of other strides, which no conversion has made contiguous.
    agree(compiled, call, leaf(1, 3, 7).double().detach().mT.requires_grad_(), y, t)
    agree(compiled, call, x.detach(), y.detach(), t.detach())
    with torch.inference_mode():
        agree(compiled, call, x, y, t)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, s: mm.sup_con(x, s), "labels: expected classes"),
        (lambda x, s: mm.hybrid_contrast({"a": x, "b": x.flip(0)}, s).total, "labels: expected"),
        (lambda x, s: mm.hard_triplets(x, s)[1], "labels: expected classes"),
        (lambda x, s: mm.hard_negatives(x, x, 1, labels=s).scores, "labels: expected classes"),
        (lambda x, s: mm.info_nce(x, x, positives=x @ x.T), "positives: expected weights"),
        (lambda x, s: mm.sup_con(x, None, positives=x @ x.T), "positives: expected weights"),
    ],
)
def test_an_operator_refuses_values_that_a_compiler_cannot_read(call, message):
    """Scores in the place of labels, and weights below 0: as in eager mode."""
    x = normal(1, 300, 3).float()
    torch._dynamo.reset()
    for function in (call, torch.compile(call, backend="aot_eager", fullgraph=True)):
        with pytest.raises(ValueError, match=message):
            function(x, x[:, 0].clone())


def test_an_operator_is_not_asked_for_gradients_that_nobody_needs():
    found = []

    def backend(graph, inputs):
        found.append(graph.graph)
        return graph.forward

    torch.compile(mm.info_nce, backend=backend, fullgraph=True)(leaf(1, 5, 3), normal(2, 5, 3))
    (call,) = (node for node in found[0].nodes if "mmcontrast" in str(node.target))
    assert call.args[-1][:2] == [True, False]
