"""State dicts between modules that are constructed differently: the same outputs, or a refusal."""

import copy
import io
import itertools
import pickle

import pytest
import safetensors.torch
import torch
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

import mmcontrast as mm
from mmcontrast.loading import restore_dimensions
from tests.mmcontrast.strategies import normal

X, Y = normal(1, 4, 3), normal(2, 4, 3)


def moved(module, seed=5):
    """With parameters that no constructor gives."""
    with torch.no_grad():
        for x in module.parameters():
            x.add_(0.3 * normal(seed, *x.shape, 1)[..., 0])
    return module


def queue(*args, pushed=3, labels=None, **kwargs):
    made = mm.EmbeddingQueue(*args, **kwargs)
    x = normal(7, pushed, args[1]).to(made.embeddings.dtype)
    made.push(x, None if labels is None else torch.tensor(labels))
    return made


def learned(*args, **kwargs):
    return moved(mm.LearnableTemperature(*args, **kwargs))


FAMILIES = {
    "temperature": (
        lambda module: [module()],
        {
            "default": learned,
            "wide": lambda: learned(0.3, maximum=10),
            "narrow": lambda: learned(0.06, minimum=0.05, maximum=0.0625),
            "fresh": mm.LearnableTemperature,
            "double": lambda: learned(0.3).double(),
            "half": lambda: learned(0.3, minimum=0.1, maximum=0.9).half(),
        },
    ),
    "loss": (
        lambda module: [module(X, Y)],
        {
            "default": lambda: mm.InfoNCE(temperature=learned()),
            "wide": lambda: mm.InfoNCE(temperature=learned(0.3, maximum=10)),
        },
    ),
    "sigmoid": (
        lambda module: [module(X, Y)],
        {
            "default": lambda: moved(mm.SigmoidContrast()),
            "other": lambda: mm.SigmoidContrast(temperature=1.0, bias=0.0),
        },
    ),
    "distance": (
        lambda module: [module(X[:, :2], Y[:, :2]) if len(module.whitening) == 2 else module(X, Y)],
        {
            "given": lambda: mm.Mahalanobis(torch.diag(torch.tensor([1.0, 2.0, 3.0])).double()),
            "single": lambda: mm.Mahalanobis(torch.eye(3)),
            "estimated": lambda: mm.Mahalanobis.estimate(normal(3, 9, 3)),
            "learned": lambda: moved(mm.Mahalanobis.learned(3)),
            "trainable": lambda: moved(mm.Mahalanobis(torch.eye(3).double(), trainable=True)),
            "smaller": lambda: mm.Mahalanobis(torch.eye(2)),
        },
    ),
    "triplet": (
        lambda module: [module(X, Y, Y.flip(0))],
        {
            "given": lambda: mm.Triplet(distance=mm.Mahalanobis(4 * torch.eye(3).double())),
            "learned": lambda: mm.Triplet(distance=moved(mm.Mahalanobis.learned(3))),
        },
    ),
    "queue": (
        lambda q: [*q.extend(normal(3, 2, q.embeddings.shape[1]), rows=2), q.labels, q.position],
        {
            "default": lambda: queue(4, 3, labels=[5, 6, 7]),
            "empty": lambda: mm.EmbeddingQueue(4, 3),
            "double": lambda: queue(4, 3, pushed=6, dtype=torch.float64),
            "half": lambda: queue(4, 3).half(),
            "larger": lambda: queue(6, 3, pushed=6),
            "smaller": lambda: queue(1, 3),
            "wider": lambda: queue(4, 5),
            "scores": lambda: queue(4, 3, labels=[0.2, 0.9, -0.4], label_dtype=torch.float32),
            "exact": lambda: queue(4, 3, pushed=1, labels=[0.1], label_dtype=torch.float64),
        },
    ),
}

PAIRS = [
    (family, *pair)
    for family, (_, makers) in FAMILIES.items()
    for pair in itertools.product(makers, repeat=2)
]


def facts(module):
    """All that a load may change: the state, and what the module says of itself."""
    return repr(module), {k: x.clone() for k, x in module.state_dict().items()}


def unchanged(module, before):
    words, state = facts(module)
    assert words == before[0]
    assert list(state) == list(before[1])
    for name, x in state.items():
        assert x.dtype == before[1][name].dtype, name
        assert torch.equal(x, before[1][name]), name


def loads(module, other):
    try:
        module.load_state_dict(other.state_dict())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("family", "source", "target"), PAIRS)
def test_a_load_gives_the_same_outputs_or_changes_nothing(family, source, target):
    outputs, makers = FAMILIES[family]
    saved, other = makers[source](), makers[target]()
    before = facts(other)
    if not loads(other, saved):
        assert source != target
        unchanged(other, before)
        return
    # Parameters are rounded to the module's own dtype, as everywhere in torch; buffers are not.
    lowest = min((x.dtype.itemsize for m in (saved, other) for x in m.parameters()), default=8)
    tolerance = {8: 0.0, 4: 1e-6, 2: 1e-2}[lowest] if source != target else 0.0
    for x, y in zip(outputs(other), outputs(saved), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=0, check_dtype=False)


def test_the_pairs_of_one_kind_are_taken_and_others_are_not():
    """So that a refusal of everything would not pass above."""
    taken = set()
    for family, source, target in PAIRS:
        saved, other = (FAMILIES[family][1][name]() for name in (source, target))
        if loads(other, saved):
            taken.add((family, source, target))
    refused = set(PAIRS) - taken
    assert {family for family, *_ in refused} == {"distance", "triplet", "queue"}
    for family, *pair in refused:
        a_learned = {"learned", "trainable"} & set(pair)
        sizes = {"smaller", "larger", "wider"} & set(pair)
        scores = {"scores", "exact"} & set(pair)
        assert a_learned or sizes or scores, (family, pair)


def queue_state(**changes):
    return queue(4, 3, labels=[1, 2, 3]).state_dict() | changes


@pytest.mark.parametrize(
    ("module", "state", "message"),
    [
        (
            mm.EmbeddingQueue(4, 3),
            queue_state(position=torch.tensor(4)),
            "position: .* from 0 to 3",
        ),
        (mm.EmbeddingQueue(4, 3), queue_state(position=torch.tensor(-1)), "position: .*got -1"),
        (mm.EmbeddingQueue(4, 3), queue_state(position=torch.arange(3)), "position: .*shape"),
        (mm.EmbeddingQueue(4, 3), queue_state(position=torch.tensor(0.5)), "position: .*int64"),
        (mm.EmbeddingQueue(4, 3), queue_state(filled=torch.ones(4)), "filled: .*bool"),
        (mm.EmbeddingQueue(4, 3), queue_state(labels=torch.ones(4)), "labels: .*int64"),
        (mm.EmbeddingQueue(4, 3), queue_state(labels=[1, 2, 3, 4]), "labels: .*a tensor, got list"),
        (
            mm.EmbeddingQueue(4, 3),
            queue_state(other=torch.ones(1)),
            r"state_dict: expected .*other",
        ),
        (
            mm.EmbeddingQueue(4, 3),
            {k: x for k, x in queue_state().items() if k != "filled"},
            "state_dict: expected the entries .*filled",
        ),
        (
            mm.SigmoidContrast(),
            {"log_scale": torch.tensor(1.0), "bias": torch.ones(3)},
            r"bias: expected shape \(1,\), got \(3,\)",
        ),
        (mm.SigmoidContrast(), {"log_scale": torch.tensor(1.0)}, "state_dict: expected .*bias"),
        *(
            (
                mm.LearnableTemperature(),
                {"theta": torch.tensor(1.0), "_extra_state": torch.tensor(bounds)},
                "bounds: expected",
            )
            for bounds in ([0.2, 0.1], [0.0, 1.0], [float("nan"), 1.0], [0.1, float("inf")], [0.1])
        ),
        (
            mm.LearnableTemperature(),
            {"theta": torch.ones(2), "_extra_state": torch.tensor([0.1, 10.0])},
            "theta: expected shape",
        ),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_refused_load_changes_nothing(module, state, message, strict):
    module = copy.deepcopy(module)
    before = facts(module)
    if not strict and message.startswith("state_dict"):
        module.load_state_dict(state, strict=False)  # as asked: what is there, where it belongs
        return
    with pytest.raises(ValueError, match=message):
        module.load_state_dict(state, strict=strict)
    unchanged(module, before)


def test_a_refusal_inside_a_loss_changes_nothing():
    loss = mm.Triplet(distance=mm.Mahalanobis(torch.eye(3)))
    before = facts(loss)
    for other in (mm.Mahalanobis.learned(3), mm.Mahalanobis(torch.eye(2))):
        for strict in (True, False):
            with pytest.raises(ValueError, match="expected"):
                loss.load_state_dict(mm.Triplet(distance=other).state_dict(), strict=strict)
            unchanged(loss, before)


def test_a_state_without_bounds_is_read_with_the_modules_own():
    old = {"temperature.theta": torch.tensor(0.7)}
    loss = mm.InfoNCE(temperature=mm.LearnableTemperature(0.3, maximum=10))
    loss.load_state_dict(old)
    assert loss.temperature.theta.item() == pytest.approx(0.7)
    assert (loss.temperature.minimum, loss.temperature.maximum) == (0.01, 10)
    loss.load_state_dict({}, strict=False)
    assert loss.temperature.theta.item() == pytest.approx(0.7)
    with pytest.raises(ValueError, match=r"state_dict: expected the entries .*theta"):
        loss.load_state_dict({})


def by_torch_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


CHANNELS = {
    "torch.save": by_torch_save,
    "safetensors": lambda state: safetensors.torch.load(safetensors.torch.save(dict(state))),
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    "low precision": lambda state: {
        k: x.half() if x.is_floating_point() else x for k, x in state.items()
    },
}


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_states_pass_through_files(channel):
    temperature, other = mm.LearnableTemperature(0.3, maximum=10), mm.LearnableTemperature()
    other.load_state_dict(CHANNELS[channel](temperature.state_dict()))
    assert other().item() == pytest.approx(0.3, rel=1e-2 if channel == "low precision" else 1e-6)
    full, fresh = queue(4, 3, labels=[7, 8, 9]), mm.EmbeddingQueue(4, 3)
    fresh.load_state_dict(CHANNELS[channel](full.state_dict()))
    assert fresh.labels.tolist() == [7, 8, 9, mm.IGNORE]


def test_copies_guard_themselves():
    """The hook of a copy looks at the copy."""
    module = mm.EmbeddingQueue(4, 3)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        before = facts(twin)
        with pytest.raises(ValueError, match="position"):
            twin.load_state_dict(queue_state(position=torch.tensor(9)))
        unchanged(twin, before)
        twin.load_state_dict(queue_state())
        assert twin.filled.sum() == 3
    assert not module.filled.any()


def test_other_ways_to_load():
    """On the device meta with assign, by torch.distributed.checkpoint, and by functional_call."""
    saved = mm.InfoNCE(temperature=learned(0.3, maximum=10))
    with torch.device("meta"):
        empty = mm.InfoNCE(temperature=mm.LearnableTemperature())
    empty.load_state_dict(saved.state_dict(), assign=True)
    by_checkpoint = mm.InfoNCE(temperature=mm.LearnableTemperature())
    set_model_state_dict(by_checkpoint, get_model_state_dict(saved))
    for other in (empty, by_checkpoint):
        assert torch.equal(other(X, Y), saved(X, Y))
    called = torch.func.functional_call(saved, dict(saved.state_dict()), (X, Y))
    assert torch.equal(called, saved(X, Y))


OLD = {
    "theta": torch.tensor(0.7),
    "_extra_state": torch.tensor([0.02, 5.0], dtype=torch.float64),
}
"""A temperature as older releases saved it, without a dimension."""


class Inside(torch.nn.Module):
    """A temperature in a loss in a model."""

    def __init__(self):
        super().__init__()
        self.loss = mm.InfoNCE(temperature=mm.LearnableTemperature())


@pytest.mark.parametrize("channel", [None, *CHANNELS])
@pytest.mark.parametrize("settings", [{}, {"strict": False}, {"assign": True}])
@pytest.mark.parametrize("prefix", ["", "loss.temperature."])
def test_parameters_without_a_dimension_are_taken(channel, settings, prefix):
    """And new ones, from wherever they come, wherever the module is; a parameter has shape (1,)."""
    for state in (OLD, OLD | {"theta": torch.tensor([0.7])}):
        given = {prefix + name: x for name, x in state.items()}
        kept = dict(given)
        model = Inside() if prefix else mm.LearnableTemperature()
        model.load_state_dict(CHANNELS[channel](given) if channel else given, **settings)
        (theta,) = model.parameters()
        assert type(theta) is torch.nn.Parameter
        assert theta.shape == (1,)
        assert theta.requires_grad
        assert theta.item() == pytest.approx(0.7, rel=1e-3)
        temperature = model.loss.temperature if prefix else model
        assert temperature.maximum == pytest.approx(5.0, rel=1e-3)
        assert temperature().shape == ()
        assert {name: x.shape for name, x in given.items()} == {k: x.shape for k, x in kept.items()}


def test_a_sigmoid_loss_without_dimensions_is_taken():
    old = {"log_scale": torch.tensor(1.2), "bias": torch.nn.Parameter(torch.tensor(-3.0))}
    for assign in (False, True):
        loss = mm.SigmoidContrast()
        loss.load_state_dict(old, assign=assign)
        assert {name: x.tolist() for name, x in loss.named_parameters()} == {
            "log_scale": [pytest.approx(1.2)],
            "bias": [-3.0],
        }
    called = torch.func.functional_call(loss, old, (X, Y))
    assert torch.equal(called, loss(X, Y))


def test_only_parameters_gain_a_dimension():
    module = mm.EmbeddingQueue(1, 3)
    before = facts(module)
    with pytest.raises(ValueError, match=r"labels: expected shape \(1,\), got \(\)"):
        module.load_state_dict(module.state_dict() | {"labels": torch.tensor(3)})
    unchanged(module, before)


OPTIMIZERS = {
    "SGD": lambda x: torch.optim.SGD(x, 0.1, momentum=0.9),
    "Adam": lambda x: torch.optim.Adam(x, 0.1, amsgrad=True),
    "AdamW, fused": lambda x: torch.optim.AdamW(x, 0.1, fused=True),
    "NAdam": lambda x: torch.optim.NAdam(x, 0.1),
    "RMSprop": lambda x: torch.optim.RMSprop(x, 0.1, momentum=0.5, centered=True),
    "Adagrad": lambda x: torch.optim.Adagrad(x, 0.1),
    "Adamax": lambda x: torch.optim.Adamax(x, 0.1),
    "ASGD": lambda x: torch.optim.ASGD(x, 0.1),
    "Rprop": lambda x: torch.optim.Rprop(x, 0.1),
    "Adadelta": lambda x: torch.optim.Adadelta(x, 0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("as_hook", [False, True])
def test_an_optimizers_old_averages_go_on(name, as_hook):
    """To the steps that an optimizer makes which was never saved; weights are left alone."""

    def steps(optimizer, parameters, number):
        for k in range(number):
            optimizer.zero_grad()
            sum((x - 3).square().sum() * (k + 1) for x in parameters).backward()
            optimizer.step()
        return [x.detach().clone() for x in parameters]

    def fresh(shape):
        parameters = [torch.nn.Parameter(torch.ones(s)) for s in (shape, (2, 3))]
        return OPTIMIZERS[name](parameters), parameters

    optimizer, parameters = fresh(())
    steps(optimizer, parameters, 2)
    state = copy.deepcopy(optimizer.state_dict())
    other, resumed = fresh((1,))
    with torch.no_grad():
        for x, y in zip(resumed, parameters, strict=True):
            x.copy_(y)
    if as_hook:
        other.register_load_state_dict_post_hook(restore_dimensions)
    other.load_state_dict(state)
    if not as_hook:
        restore_dimensions(other)
    expected, found = steps(optimizer, parameters, 3), steps(other, resumed, 3)
    assert torch.equal(found[0], expected[0].reshape(1))
    assert torch.equal(found[1], expected[1])
    never_saved, parameters = fresh((1,))
    steps(never_saved, parameters, 1)
    for x, y in zip(resumed, parameters, strict=True):
        shapes = {k: torch.as_tensor(v).shape for k, v in other.state[x].items()}
        assert shapes == {k: torch.as_tensor(v).shape for k, v in never_saved.state[y].items()}
