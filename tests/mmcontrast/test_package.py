"""The package as a whole, and what holds for every public function in it."""

import copy
import doctest
import importlib.resources
import inspect
import pickle
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from tests.mmcontrast.public_cases import (
    ANY_SIZE,
    CASES,
    HALVES,
    LOSSES,
    NO_MODULES,
    NOT_CASES,
    Make,
    floats,
    leaves,
    mapped,
    of_few,
    results,
    scalar,
    tensors,
    value_and_gradients,
)
from tests.mmcontrast.strategies import close, tol
from tests.processes import python

every_case = pytest.mark.parametrize("name", CASES)
every_loss = pytest.mark.parametrize("name", LOSSES)
every_function = pytest.mark.parametrize("name", NO_MODULES)  # of losses; Modules call them
LOW = [torch.float32, torch.bfloat16, torch.float16]


def inputs(name, **options):
    return CASES[name].inputs(Make(**options))


# --- names and imports ---------------------------------------------------------------------------


def test_every_public_name_has_a_case():
    """A new loss without a line in public_cases.py fails here; so does a line without a loss."""
    covered = {name.split(":")[0] for name in CASES}
    assert covered | set(NOT_CASES) == set(mm.__all__)
    assert not covered & set(NOT_CASES)


def test_all_lists_the_public_names_exactly_once_and_in_order():
    public = {
        name
        for name, value in vars(mm).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(mm.__all__)
    assert len(mm.__all__) == len(set(mm.__all__))


PUBLIC = [name for name in mm.__all__ if callable(getattr(mm, name))]
# Named tuples: the functions that return them show them.
RESULTS = ["Diagnosis", "Extended", "HardNegatives", "Pairs", "Retrieval"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    assert inspect.getdoc(getattr(mm, name))
    assert getattr(mm, name).__module__.startswith("mmcontrast.")


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in RESULTS])
def test_every_public_name_has_an_example(name):
    """The examples run with the modules' other doctests."""
    target = getattr(mm, name)
    module = sys.modules[target.__module__]
    tests = doctest.DocTestFinder(recurse=False).find(target, name, module=module)
    assert any(test.examples for test in tests)


def test_the_types_are_declared():
    assert importlib.resources.files("mmcontrast").joinpath("py.typed").is_file()


def test_importing_it_brings_torch_numpy_einops_and_nothing_else():
    """Law of the house: whatever the three bring themselves, plus the package."""
    program = (
        "import sys, torch, numpy, einops, einops.layers.torch\n"
        "before = set(sys.modules)\n"
        "import mmcontrast\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))\n"
    )
    done = python("-W", "error", "-c", program)
    assert done.stdout.strip() == "['mmcontrast']"
    assert done.stderr == ""


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert mm.__version__ == version("mmcontrast")


# --- modules ------------------------------------------------------------------------------------


MODULES = {
    "InfoNCE": lambda: mm.InfoNCE(temperature=mm.LearnableTemperature(0.2)),
    "SymmetricInfoNCE": lambda: mm.SymmetricInfoNCE(temperature=mm.LearnableTemperature(0.2)),
    "AnchoredInfoNCE": lambda: mm.AnchoredInfoNCE(temperature=mm.LearnableTemperature(0.2)),
    "JointContrast": lambda: mm.JointContrast(temperature=mm.LearnableTemperature(0.2)),
    "RankNContrast": lambda: mm.RankNContrast(temperature=mm.LearnableTemperature(0.2)),
    "SupCon": lambda: mm.SupCon(form="in", temperature=mm.LearnableTemperature(0.2)),
    "HybridContrast": lambda: mm.HybridContrast(selection=mm.PairSelection(), log=True),
    "MultilevelContrast": lambda: mm.MultilevelContrast(temperature=mm.LearnableTemperature(0.2)),
    "Triplet": lambda: mm.Triplet(margin=0.3, distance=mm.squared_euclidean),
    "ModalityCorrelationTriplet": lambda: mm.ModalityCorrelationTriplet(margin=0.5),
    "KLDistill": lambda: mm.KLDistill(temperature=2.0),
    "ReplacementGate": lambda: mm.ReplacementGate(0.4),
    "SigmoidContrast": lambda: mm.SigmoidContrast(temperature=0.2),
    "LearnableTemperature": lambda: mm.LearnableTemperature(0.2),
    "EmbeddingQueue": lambda: mm.EmbeddingQueue(3, 2),
    "Mahalanobis": lambda: mm.Mahalanobis.learned(3),
}


def test_every_public_module_is_in_the_table_above():
    modules = {n for n in mm.__all__ if isinstance(getattr(mm, n), type(torch.nn.Module))}
    assert {n for n in modules if issubclass(getattr(mm, n), torch.nn.Module)} == set(MODULES)


# Modules that hold the settings of a function, by what they are called with.
FUNCTIONS = {
    "InfoNCE": mm.info_nce,
    "SymmetricInfoNCE": mm.symmetric_info_nce,
    "AnchoredInfoNCE": mm.anchored_info_nce,
    "JointContrast": mm.joint_contrast,
    "RankNContrast": mm.rank_n_contrast,
    "SupCon": mm.sup_con,
    "HybridContrast": mm.hybrid_contrast,
    "MultilevelContrast": mm.multilevel_contrast,
    "Triplet": mm.triplet,
    "ModalityCorrelationTriplet": mm.modality_correlation_triplet,
    "KLDistill": mm.kl_distill,
    "ReplacementGate": mm.replacement_gate,
    "SigmoidContrast": mm.sigmoid_contrast,
}
NO_FUNCTION = {
    "LearnableTemperature": "a parameter",
    "EmbeddingQueue": "state",
    "Mahalanobis": "a distance with a matrix of its own",
}
# What a Module says of its own, in its docstring, about an argument that differs.
OWN = {
    ("InfoNCE", "prior"): "prior is a float",
    ("SymmetricInfoNCE", "prior"): "prior is a float",
    ("AnchoredInfoNCE", "prior"): "prior is a float",
    ("ReplacementGate", "training"): "open in training mode only",
    ("SigmoidContrast", "temperature"): "initial value",
    ("SigmoidContrast", "bias"): "initial value",
}


def parameters(function):
    return {name: p for name, p in inspect.signature(function).parameters.items() if name != "self"}


def test_every_module_has_its_function():
    assert set(FUNCTIONS) | set(NO_FUNCTION) == set(MODULES)
    for name, function in FUNCTIONS.items():
        assert f":func:`{function.__name__}`" in inspect.getdoc(getattr(mm, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_module_and_function_take_the_same_arguments(name):
    """Each argument once, as a setting or in the call, with the same default and annotation."""
    module = getattr(mm, name)
    function = parameters(FUNCTIONS[name])
    settings, inputs = parameters(module.__init__), parameters(module.forward)
    excused = {argument for owner, argument in OWN if owner == name}
    assert not set(settings) & set(inputs)
    assert {**settings, **inputs}.keys() | excused == function.keys()
    for argument, found in {**settings, **inputs}.items():
        expected = function[argument]
        assert found.default == expected.default, argument
        if argument in excused or found.annotation == expected.annotation:
            continue
        learned = (expected.annotation, found.annotation) == (
            float | torch.Tensor,
            float | mm.LearnableTemperature,
        )
        assert learned, argument
    for argument in excused:
        assert OWN[name, argument] in inspect.getdoc(module)


VALUES = {  # of settings, none of them the default of any Module
    "temperature": 0.25,
    "bias": -3.0,
    "probability": 0.25,
    "anchor": "audio",
    "score": "product",
    "negatives": "all",
    "margin": 0.25,
    "weights": (1, 2, 3),
    "normalize": mm.softplus_normalize,
    "distance": mm.manhattan,
    "reduction": "sum",
    "reduce": "mean",
    "chunk_size": 3,
    "group": "world",
    "refine": False,
    "log": True,
    "selection": mm.PairSelection(0.4),
    "refine_on": "all",
    "hinge": False,
    "swap": True,
    "soft": True,
    "symmetric": False,
    "pair_design": "B",
    "skip_unaltered": False,
    "form": "in",
    "decoupled": True,
    "prior": 0.125,
    "smoothing": 0.125,
    "in_batch": False,
    "within": True,
}
OWN_VALUES = {
    ("AnchoredInfoNCE", "direction"): "both",
    ("KLDistill", "direction"): "student_teacher",
    ("MultilevelContrast", "weights"): {"first": 0.5},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_module_hands_every_argument_on(name, monkeypatch):
    """Settings and inputs reach the function under their own names."""
    module, function = getattr(mm, name), FUNCTIONS[name]
    received = {}

    def recorded(*args, **keywords):
        received.update(inspect.signature(function).bind(*args, **keywords).arguments)

    settings = {
        argument: OWN_VALUES.get((name, argument), VALUES.get(argument))
        for argument in parameters(module.__init__)
    }
    inputs = {argument: object() for argument in parameters(module.forward)}
    made = module(**settings)
    monkeypatch.setattr(sys.modules[module.__module__], function.__name__, recorded)
    made(**inputs)
    for argument, value in {**settings, **inputs}.items():
        found = received[argument]
        same = found is value or float(torch.as_tensor(found).detach()) == pytest.approx(value)
        assert same, argument


@pytest.mark.parametrize("name", MODULES)
def test_law_59_modules_copy_pickle_and_reload(name):
    module = MODULES[name]()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.25)
    reloaded = MODULES[name]()
    reloaded.load_state_dict(module.state_dict())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), reloaded):
        assert repr(twin) == repr(module)
        assert list(twin.state_dict()) == list(module.state_dict())
        for key, value in module.state_dict().items():
            assert torch.equal(twin.state_dict()[key], value)
        ours, theirs = (
            {k: v for k, v in vars(m).items() if not k.startswith("_")} for m in (module, twin)
        )
        assert ours == theirs


# --- what holds for every one --------------------------------------------------------------------


@every_function
def test_law_44_gradcheck_and_gradgradcheck(name):
    made = leaves(of_few(name, n=4, d=3, seed=3))
    free = floats(made)

    def function(*moved):
        moved = iter(moved)
        chosen = mapped(lambda x: next(moved) if x.is_floating_point() else x, made)
        return tuple(x for x in results(name, chosen) if x.requires_grad)

    assert torch.autograd.gradcheck(function, free)
    # Along random directions: entry by entry it takes five times as long.
    assert torch.autograd.gradgradcheck(function, free, fast_mode=True)


@pytest.mark.parametrize("name", HALVES)
def test_law_24_dtypes(name):
    """Results are float32 (float64 for float64), as close as float32 can be."""
    for dtype in LOW:
        low = inputs(name, dtype=dtype)
        exact = mapped(lambda x: x.double() if x.is_floating_point() else x, low)
        for found, expected in zip(results(name, low), results(name, exact), strict=True):
            if expected.is_floating_point():
                assert expected.dtype == torch.float64
                assert found.dtype == torch.float32, dtype
                scale = 1 + expected.abs().max().item()
                close(found / scale, expected / scale, atol=tol(torch.float32, 0.07, 8))
            else:
                assert torch.equal(found, expected), dtype


@every_loss
def test_law_23_zero_rows(name):
    for dtype in (torch.float64, *LOW):
        made = mapped(
            lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]]) if x.is_floating_point() else x,
            inputs(name, dtype=dtype),
        )
        value, found = value_and_gradients(name, made)
        assert value.isfinite(), dtype
        assert all(gradient.isfinite().all() for gradient in found), dtype


@every_case
def test_law_24_autocast(name):
    """Inside autocast a float32 input gives the float32 answer, to the last bit."""
    made = inputs(name, dtype=torch.float32)
    outside = results(name, made)
    for low in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=low):
            inside = results(name, made)
        for found, expected in zip(inside, outside, strict=True):
            assert found.dtype == expected.dtype, low
            assert torch.equal(found, expected), low


@every_loss
def test_law_24_autocast_gradients(name):
    """The forward inside autocast and the backward outside, as PyTorch asks for."""
    made = leaves(inputs(name, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = scalar(name, made)
    inside = torch.autograd.grad(total, floats(made))
    for found, expected in zip(inside, value_and_gradients(name, made)[1], strict=True):
        assert torch.equal(found, expected)


def colder(name):
    """The loss at a temperature of 0.01, where a logit has 100 times the error of its cosine."""
    call = CASES[name].call
    taken = "temperature" in inspect.signature(call).parameters
    return partial(call, temperature=0.01) if taken else call


def weighted(found):
    """A sum in which every number counts differently."""
    total = [*tensors(found), found.total] if isinstance(found, mm.LossTerms) else tensors(found)
    return sum((x * torch.linspace(1, 2, x.numel()).view(x.shape)).sum() for x in total)


@every_loss
def test_law_24_autocast_around_backward(name):
    """First and second derivatives made inside autocast are those made outside, to the last bit."""
    call = colder(name)

    def derivatives(low=None):
        made = leaves(inputs(name, dtype=torch.float32))
        with torch.autocast("cpu", dtype=low, enabled=low is not None):
            (plain := weighted(call(*made))).backward()
            first = [x.grad.clone() for x in floats(made)]
            slopes = torch.autograd.grad(weighted(call(*made)), floats(made), create_graph=True)
            bent = sum(x.sin().sum() for x in slopes)
            if bent.requires_grad:
                bent.backward()
        assert plain.requires_grad
        return first + [x.detach() for x in slopes] + [x.grad for x in floats(made)]

    outside = derivatives()
    for low in (torch.bfloat16, torch.float16):
        for found, expected in zip(derivatives(low), outside, strict=True):
            assert torch.equal(found, expected), low


@every_function
def test_law_24_autocast_around_torch_func(name):
    """A transform's backward pass is inside autocast always; and so is its second derivative."""
    made = of_few(name, dtype=torch.float32, n=4, d=3)
    free = floats(made)
    every = tuple(range(len(free)))

    def function(*moved):
        moved = iter(moved)
        chosen = mapped(lambda x: next(moved) if x.is_floating_point() else x, made)
        return weighted(colder(name)(*chosen))

    slopes = torch.func.grad(function, argnums=every)

    def derivatives():
        bent = torch.func.grad(lambda *moved: sum(x.sin().sum() for x in slopes(*moved)), every)
        return [*slopes(*free), *bent(*free)]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = derivatives()
    for found, expected in zip(inside, derivatives(), strict=True):
        assert torch.equal(found, expected)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@every_case
def test_torchs_default_dtype_changes_nothing(name):
    made = inputs(name, dtype=torch.float32)
    expected = results(name, made)
    for default in (torch.bfloat16, torch.float16, torch.float64):
        with default_dtype(default):
            found = results(name, made)
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == y.dtype, default
            assert torch.equal(x, y), default


def sequences():
    x = torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return {"text": torch.arange(200).view(40, 5) % 9, "audio": x, "vision": x.flip(0)}


RANDOM = {
    "sample_one": lambda g: mm.sample_one(torch.ones(40, 300, dtype=torch.bool), generator=g),
    "uniform_negatives": lambda g: mm.uniform_negatives(torch.zeros(40), k=9, generator=g)[::2],
    "replacement_gate": lambda g: mm.replacement_gate(
        mm.uniform_negatives(torch.zeros(90), k=80, generator=g), probability=0.3, generator=g
    ),
    "swap": lambda g: mm.swap(sequences(), generator=g),
    "shift": lambda g: mm.shift(sequences(), generator=g),
    "add_noise": lambda g: mm.add_noise(sequences(), relative=True, generator=g),
    "replace_tokens": lambda g: mm.replace_tokens(
        sequences(), vocabulary_size=9, probability=0.3, generator=g
    ),
    "mixed_negatives": lambda g: mm.mixed_negatives(
        sequences(), vocabulary_size=9, probability=0.3, generator=g
    ),
}


def test_all_that_draws_at_random_is_in_the_table_above():
    assert set(RANDOM) == {name for name, why in NOT_CASES.items() if "at random" in why}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16])
def test_a_low_default_dtype_draws_the_same(name, default):
    expected = RANDOM[name](torch.Generator().manual_seed(3))
    with default_dtype(default):
        found = RANDOM[name](torch.Generator().manual_seed(3))
    for x, y in zip(tensors(found), tensors(expected), strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


TEMPERED = [name for name in LOSSES if colder(name) is not CASES[name].call]


@pytest.mark.parametrize("name", [*TEMPERED, "multilevel_contrast"])
def test_a_temperature_in_low_precision_is_its_own_value(name):
    """As if it were given in float32; its own gradient is that one, rounded once."""
    made = inputs(name, dtype=torch.float32, n=300)

    def call(*given, temperature):
        if name == "multilevel_contrast":
            x, y, z = given
            levels = {"a": [(x, y), (y, z), (x, z), (z, y), (y, x)]}
            return mm.multilevel_contrast(levels, temperature=temperature)
        return CASES[name].call(*given, temperature=temperature)

    def of(dtype):
        temperature, given = torch.tensor(0.0703125, dtype=dtype).requires_grad_(), leaves(made)
        value = weighted(call(*given, temperature=temperature))
        return value.detach(), *torch.autograd.grad(value, [temperature, *floats(given)])

    value, slope, *gradients = of(torch.float32)
    for low in (torch.bfloat16, torch.float16):
        for x, y in zip(of(low), (value, slope.to(low), *gradients), strict=True):
            assert torch.equal(x, y), low


@every_case
def test_law_57_inputs_are_not_touched(name):
    made = leaves(inputs(name))
    before = mapped(lambda x: x.detach().clone(), made)
    versions = [x._version for x in tensors(made)]
    total = scalar(name, made)
    if total.requires_grad:
        total.backward()
    for x, same, version in zip(tensors(made), tensors(before), versions, strict=True):
        assert torch.equal(x, same)
        assert x._version == version


@every_case
def test_law_58_strides_do_not_matter(name):
    made = inputs(name)

    def strided(x):
        spread = torch.empty(*[2 * size for size in x.shape], dtype=x.dtype).movedim(0, -1)
        place = spread.movedim(-1, 0)[tuple(slice(None, None, 2) for _ in x.shape)]
        return place.copy_(x)

    for found, expected in zip(
        results(name, mapped(strided, made)), results(name, made), strict=True
    ):
        close(found, expected, atol=1e-14)


@every_loss
def test_law_58_expanded_rows(name):
    """One row seen n times: stride 0, which nobody may write to."""
    made = mapped(
        lambda x: x[:1].expand_as(x) if x.is_floating_point() else x, inputs(name, seed=2)
    )
    value, found = value_and_gradients(name, made)
    copied, expected = value_and_gradients(name, mapped(torch.clone, made))
    close(value, copied)
    for gradient, reference in zip(found, expected, strict=True):
        close(gradient, reference, atol=1e-9)


@every_case
def test_law_65_deterministic(name):
    made = inputs(name)
    for first, second in zip(results(name, made), results(name, made), strict=True):
        assert torch.equal(first, second)


@every_case
def test_law_64_without_gradients(name):
    made = leaves(inputs(name))
    outside = results(name, made)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            inside = results(name, made)
        for found, expected in zip(inside, outside, strict=True):
            assert not found.requires_grad, mode
            assert torch.equal(found, expected.detach()), mode


@every_loss
def test_law_63_few_samples(name):
    """Nobody, one and two: finite, with a graph, and of an empty batch a zero."""
    for n in (0, 1, 2):
        made = leaves(inputs(name, n=n))
        found = results(name, made)
        for x in found:
            assert x.requires_grad
            assert x.isfinite().all()
            assert n or (x == 0).all()
        for gradient in value_and_gradients(name, made)[1]:
            assert gradient.isfinite().all()
            assert n or (gradient == 0).all()


@every_case
def test_law_63_miners_and_masks_of_few_samples(name):
    for n in (0, 1, 2):
        found = results(name, inputs(name, n=n))
        assert all(x.isfinite().all() for x in found)


@every_loss
def test_law_66_nothing_depends_on_the_grad_mode_of_one_input(name):
    made = leaves(inputs(name))
    fixed = mapped(torch.Tensor.detach, made)
    for found, expected in zip(results(name, fixed), results(name, made), strict=True):
        assert not found.requires_grad
        assert torch.equal(found, expected.detach())


# --- compilers and transforms --------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name not in ANY_SIZE])
def test_law_60_compiles_into_one_graph(name):
    """The other losses are compiled for several sizes, in test_any_size.py."""
    made = of_few(name, n=4, d=3)
    torch._dynamo.reset()
    compiled = torch.compile(CASES[name].call, fullgraph=True, backend="eager")
    found = compiled(*made)
    found = tensors(found)
    for x, expected in zip(found, tensors(CASES[name].call(*made)), strict=True):
        close(x, expected, atol=1e-12)


# The hybrid loss under AOT autograd is in exact/test_operators.py and hybrid/test_contrasts.py.
COMPILED = ["info_nce:positives", "symmetric_info_nce", "triplet"]


@pytest.mark.parametrize("name", COMPILED)
def test_law_60_gradients_of_the_traced_graph(name):
    """Through AOT autograd, which differentiates and functionalises the whole graph."""
    made = leaves(of_few(name, n=4, d=3))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *x: scalar(name, x), fullgraph=True, backend="aot_eager", dynamic=False
    )
    value, expected = value_and_gradients(name, made)
    total = compiled(*made)
    close(total, value)
    found = torch.autograd.grad(total, floats(made), allow_unused=True)
    for gradient, reference in zip(found, expected, strict=True):
        close(torch.zeros_like(reference) if gradient is None else gradient, reference)


@every_loss
def test_law_61_torch_func_grad(name):
    made = inputs(name, n=4, d=3)
    free = floats(made)

    def function(*moved):
        moved = iter(moved)
        chosen = mapped(lambda x: next(moved) if x.is_floating_point() else x, made)
        return scalar(name, chosen)

    found = torch.func.grad(function, argnums=tuple(range(len(free))))(*free)
    for gradient, expected in zip(found, value_and_gradients(name, made)[1], strict=True):
        close(gradient, expected, atol=1e-9)


@every_case
def test_law_61_vmap(name):
    """Two batches at once are the two one after the other."""
    batches = [inputs(name, n=4, d=3, seed=seed) for seed in (0, 1)]
    flat = [torch.stack(pair) for pair in zip(*map(tensors, batches), strict=True)]

    def function(*moved):
        moved = iter(moved)
        return tuple(results(name, mapped(lambda x: next(moved), batches[0])))

    together = torch.vmap(function)(*flat)
    for k, batch in enumerate(batches):
        for found, expected in zip(together, results(name, batch), strict=True):
            close(found[k], expected, atol=1e-12)


# --- other devices -------------------------------------------------------------------------------


@every_case
def test_other_devices_need_no_device(name):
    """Forward and backward on fake tensors of another device.

    A tensor made on the CPU, `.item()`, a branch on a value or a shape that depends on one would
    raise. The device is "meta": autograd on fake "cuda" tensors needs a torch built with CUDA.
    """
    with FakeTensorMode():
        made = mapped(
            lambda x: x.detach().requires_grad_(x.is_floating_point()),
            inputs(name, n=4, device="meta", dtype=torch.float32),
        )
        found = results(name, made)
        assert {x.device.type for x in found} == {"meta"}
        if CASES[name].differentiable:
            total = scalar(name, made)
            for gradient in torch.autograd.grad(total, floats(made), allow_unused=True):
                assert gradient is None or gradient.device.type == "meta"


def test_the_fake_device_catches_what_it_is_there_to_catch():
    with FakeTensorMode():
        x = torch.ones(3, device="meta")
        for mistake in (
            lambda: x.sum().item(),
            lambda: x + torch.ones(3),
            lambda: x[x > 0],
            lambda: bool((x > 0).any()),
        ):
            with pytest.raises(RuntimeError):
                mistake()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpus_answer_and_never_waits():
    for name in CASES:
        made = inputs(name)
        there = mapped(lambda x: x.cuda(), made)
        torch.cuda.set_sync_debug_mode("default" if CASES[name].waits else "error")
        try:
            found = results(name, there)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for x, expected in zip(found, results(name, made), strict=True):
            assert x.device.type == "cuda"
            close(x, expected)
