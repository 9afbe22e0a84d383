"""The replacement gate against Table 2."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.gate import Gate, ReplacementGate, replacement_gate, uniform_negatives
from mmcontrast.pair_prediction import pair_prediction
from tests import oracles
from tests.mmcontrast.strategies import close, leaf, mask, normal, rng, seeds

ALPHA = 1e-6
probabilities = st.sampled_from([0.0, 0.3, 0.7, 1.0])


def negatives(seed, n, k=3):
    """Any k rows for each of n, some of them marked invalid, some of them the row itself."""
    indices = torch.randint(0, n, (n, k), generator=rng(seed))
    return mm.HardNegatives(indices, torch.zeros(n, k), mask(seed + 1, n, k, share=0.6))


def neighbours(n, k=3):
    """The next k rows, all valid."""
    indices = (torch.arange(n)[:, None] + torch.arange(1, k + 1)) % n
    return mm.HardNegatives(indices, torch.zeros(n, k), torch.ones(n, k, dtype=torch.bool))


# --- the gate ------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 8), k=st.integers(0, 4), probability=probabilities)
def test_law_55_only_valid_others_replace_and_the_labels_say_who(seed, n, k, probability):
    found = negatives(seed, n, k)
    before = copy.deepcopy(found)
    gate = replacement_gate(found, probability=probability, generator=rng(seed))
    choices = oracles.replacements(found.indices.tolist(), found.valid.tolist())
    assert gate.source.shape == gate.paired.shape == (n,)
    assert gate.source.dtype == gate.paired.dtype == torch.int64
    for i, (j, kept) in enumerate(zip(gate.source.tolist(), gate.paired.tolist(), strict=True)):
        assert (j == i) == (kept == 1)
        assert j == i or j in choices[i]
        if probability == 1 and choices[i]:
            assert kept == 0
    assert all(torch.equal(a, b) for a, b in zip(before, found, strict=True))


@given(seed=seeds, n=st.integers(2, 6))
def test_law_55_probability_one_replaces_everybody_who_has_a_negative(seed, n):
    x = normal(seed, n, 3)
    gate = replacement_gate(mm.hard_negatives(x, x, 2), probability=1.0, generator=rng(seed))
    assert (gate.paired == 0).all()
    assert (gate.source != torch.arange(n)).all()


def test_nobody_to_replace_with_is_kept():
    alone = mm.hard_negatives(torch.ones(1, 2), torch.ones(1, 2), 3)
    for found in (alone, mm.hard_negatives(torch.ones(0, 2), torch.ones(0, 2), 3)):
        gate = replacement_gate(found, probability=1.0)
        assert torch.equal(gate.source, torch.arange(len(found.indices)))
        assert (gate.paired == 1).all()


@given(seed=seeds, n=st.integers(1, 6))
def test_law_55_closed_it_is_the_identity_bit_for_bit_and_draws_nothing(seed, n):
    x = normal(seed, n, 4, 2)
    x[0, 0] = torch.nan
    for closed in ({"probability": 0.0}, {"probability": 1.0, "training": False}):
        generator, found = rng(seed), negatives(seed, n)
        gate = replacement_gate(found, **closed, generator=generator)
        gates = replacement_gate({"audio": found}, **closed, generator=generator)
        assert torch.equal(generator.get_state(), rng(seed).get_state())
        for each in (gate, gates["audio"]):
            assert (each.paired == 1).all()
            (taken,) = each.take(x)
            assert torch.equal(taken.view(torch.int64), x.view(torch.int64))


@pytest.mark.parametrize("probability", [0.4, 0.7])
@pytest.mark.parametrize("names", [("audio",), ("vision", "audio"), ("a", "b", "c")])
def test_law_39_and_table_2(probability, names):
    """How often each outcome comes: (1-p)^2, p(1-p), p(1-p), p^2 for two modalities."""
    n = 20_000
    found = {name: neighbours(n) for name in names}
    gates = replacement_gate(found, probability=probability, generator=rng(11))
    assert list(gates) == list(names)
    outcomes = list(zip(*(gates[name].paired.tolist() for name in names), strict=True))
    expected = oracles.outcome_probabilities(probability, len(names))
    close(math.fsum(expected.values()), 1.0)
    counts = [outcomes.count(outcome) for outcome in expected]
    wanted = [n * share for share in expected.values()]
    assert oracles.p_value(counts, wanted, len(expected) - 1) > ALPHA
    for k in range(len(names) + 1):
        share = math.comb(len(names), k) * probability**k * (1 - probability) ** (len(names) - k)
        close(share, math.fsum(v for o, v in expected.items() if o.count(0) == k))


def test_the_chi_square_can_fail():
    assert oracles.p_value([10_300, 9_700], [10_000, 10_000], 1) > ALPHA
    assert oracles.p_value([10_360, 9_640], [10_000, 10_000], 1) < ALPHA


def test_replacements_are_uniform_over_the_valid_and_apart_for_each_modality():
    n = 20_000
    found = neighbours(n, 4)
    found.valid[:, 1] = False
    gates = replacement_gate({"a": found, "b": found}, probability=1.0, generator=rng(12))
    steps = [((gates[m].source - torch.arange(n)) % n).tolist() for m in ("a", "b")]
    pairs = list(zip(*steps, strict=True))
    cells = [(a, b) for a in (1, 3, 4) for b in (1, 3, 4)]
    counts = [pairs.count(cell) for cell in cells]
    assert sum(counts) == n
    assert oracles.p_value(counts, [n / 9] * 9, 8) > ALPHA


def test_who_is_replaced_says_nothing_about_by_whom():
    n = 20_000
    gate = replacement_gate(neighbours(n, 2), probability=0.5, generator=rng(13))
    steps = ((gate.source - torch.arange(n)) % n).tolist()
    counts = [steps.count(step) for step in (0, 1, 2)]
    assert oracles.p_value(counts, [n / 2, n / 4, n / 4], 2) > ALPHA


def test_t4_the_sample_itself_is_dropped_from_a_ranking_that_holds_it():
    """Algorithm 1 ranks the partner too; the paper's code drops it at the draw."""
    itself = mm.HardNegatives(
        torch.tensor([[0, 1], [1, 1]]), torch.zeros(2, 2), mask(0, 2, 2, share=2)
    )
    gate = replacement_gate(itself, probability=1.0)
    assert gate.source.tolist() == [1, 1]
    assert gate.paired.tolist() == [0, 1]


@given(seed=seeds, mapping=st.booleans())
def test_laws_55_and_65_one_generator_one_outcome(seed, mapping):
    found = neighbours(64)
    found = {"audio": found, "vision": found} if mapping else found
    state = torch.get_rng_state()
    first, second = (
        replacement_gate(found, probability=0.5, generator=rng(seed)) for _ in range(2)
    )
    other = replacement_gate(found, probability=0.5, generator=rng(seed + 1))
    assert torch.equal(torch.get_rng_state(), state)
    first, second, other = (
        [x] if isinstance(x, Gate) else list(x.values()) for x in (first, second, other)
    )
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.source, b.source)
        assert torch.equal(a.paired, b.paired)
        assert not torch.equal(a.source, c.source)
    if mapping:
        assert not torch.equal(first[0].source, first[1].source)


@given(seed=seeds, n=st.integers(1, 6))
def test_take_brings_sequence_mask_and_length_from_one_sample(seed, n):
    gate = replacement_gate(negatives(seed, n), probability=0.7, generator=rng(seed))
    x, lengths = leaf(normal(seed, n, 4, 2)), torch.arange(n)
    marks = mask(seed, n, 4)
    taken, taken_marks, taken_lengths, nothing = gate.take(x, marks, lengths, None)
    assert nothing is None
    for i, j in enumerate(gate.source.tolist()):
        assert torch.equal(taken[i], x[j])
        assert torch.equal(taken_marks[i], marks[j])
        assert taken_lengths[i] == lengths[j]
    taken.sum().backward()
    counts = torch.bincount(gate.source, minlength=n).double()
    close(x.grad, counts[:, None, None].expand_as(x))


def test_absent_samples_stay_out_by_the_miners_mask():
    x, there = normal(3, 6, 3), torch.tensor([True, False, True, True, False, True])
    x[~there] = torch.nan
    both = there[:, None] & there
    for found in (
        mm.hard_negatives(torch.where(there[:, None], x, 0), x.nan_to_num(), 5, allowed=both),
        uniform_negatives(x, 5, allowed=both, generator=rng(3)),
    ):
        gate = replacement_gate(found, probability=1.0, generator=rng(4))
        assert torch.equal(gate.paired, (~there).long())
        (taken,) = gate.take(x)
        assert torch.equal(taken.isnan().any(-1), ~there)


def test_no_gate_at_all_is_an_empty_mapping():
    assert replacement_gate({}, probability=0.5) == {}


def test_the_module_opens_in_training_mode_only():
    module, found = ReplacementGate(1.0), neighbours(5)
    assert (module(found, generator=rng(1)).paired == 0).all()
    assert (module({"audio": found})["audio"].paired == 0).all()
    again = replacement_gate(found, probability=1.0, generator=rng(1))
    assert torch.equal(module(found, generator=rng(1)).source, again.source)
    module.eval()
    assert torch.equal(module(found).source, torch.arange(5))
    module = pickle.loads(pickle.dumps(copy.deepcopy(module.train())))
    assert module.training
    assert (module(found).paired == 0).all()
    assert (ReplacementGate(0.0)(found).paired == 1).all()


# --- uniform negatives ---------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(0, 6), k=st.integers(1, 8), limited=st.booleans())
def test_uniform_negatives_are_allowed_others_and_nobody_twice(seed, n, k, limited):
    allowed = mask(seed, n, n) if limited else torch.ones(n, n, dtype=torch.bool)
    found = uniform_negatives(
        torch.full((n, 2), torch.nan), k, allowed=allowed if limited else None, generator=rng(seed)
    )
    width = min(k, max(n - 1, 0))
    assert found.indices.shape == found.scores.shape == found.valid.shape == (n, width)
    assert found.indices.dtype == torch.int64
    assert (found.scores == 0).all()
    for i in range(n):
        others = {j for j in range(n) if j != i and allowed[i, j]}
        drawn = found.indices[i, found.valid[i]].tolist()
        assert set(drawn) <= others
        assert len(set(drawn)) == len(drawn) == min(width, len(others))
        assert found.valid[i].tolist() == [c < len(drawn) for c in range(width)]
        assert (found.indices[i, ~found.valid[i]] == 0).all()


@pytest.mark.parametrize("k", [2, 5])
def test_t17_uniform_negatives_and_the_gate_on_them_are_uniform(k):
    """Every one of the four others, as often in the first place and after the gate."""
    generator, counts, together = rng(14), torch.zeros(2, 5, 5), torch.zeros(5, 5)
    for _ in range(1000):
        found = uniform_negatives(torch.zeros(5, 1), k, generator=generator)
        gate = replacement_gate(found, probability=1.0, generator=generator)
        for kind, drawn in enumerate((found.indices[:, 0], gate.source)):
            counts[kind, torch.arange(5), drawn] += 1
        together[found.indices[0, 0], found.indices[1, 0]] += 1
    others = mm.off_diagonal(5)
    apart = others[0][:, None] & others[1]
    assert oracles.p_value(together[apart].tolist(), [1000 / 16] * 16, 15) > ALPHA
    for kind in range(2):
        assert (counts[kind][~others] == 0).all()
        assert oracles.p_value(counts[kind][others].tolist(), [250.0] * 20, 15) > ALPHA


def test_uniform_negatives_use_the_generator():
    x, state = torch.zeros(30, 2), torch.get_rng_state()
    a, b, c = (uniform_negatives(x, 3, generator=rng(seed)).indices for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gates_labels_are_the_targets():
    """A head that is sure and right has almost no loss on them; class 1 is kept."""
    gate = replacement_gate(neighbours(50), probability=0.5, generator=rng(5))
    right = torch.where(gate.paired[:, None] == torch.arange(2), 20.0, 0.0)
    assert pair_prediction(right, gate.paired) < 1e-8
    assert pair_prediction(-right, gate.paired) > 19


# --- engines -------------------------------------------------------------------------------------


def everything(device):
    """Every function of the file, with all arguments that are tensors, on one device."""
    x, marks = torch.randn(6, 3, device=device), torch.ones(6, 6, dtype=torch.bool, device=device)
    found = uniform_negatives(x, 3, allowed=marks)
    gates = ReplacementGate(0.5)({"audio": mm.hard_negatives(x, x, 2), "vision": found})
    taken, lengths = gates["audio"].take(x, torch.arange(6, device=device))
    return [*found, *gates["audio"], *gates["vision"], taken, lengths]


def test_other_devices_need_no_host(fake_device):
    """Fake tensors hold no values: a branch on one, or a tensor made on the CPU, raises."""
    with FakeTensorMode():
        with torch.no_grad():
            assert {x.device.type for x in everything(fake_device)} == {fake_device}
        x = torch.zeros(3, 4, 2, device=fake_device, requires_grad=True)
        (taken,) = replacement_gate(uniform_negatives(x, 2), probability=0.5).take(x)
        taken.sum().backward()
        assert x.grad.device.type == fake_device


def test_law_60_one_graph():
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for state in (1, 2):
        torch.manual_seed(state)
        found = compiled("cpu")
        torch.manual_seed(state)
        for a, b in zip(found, everything("cpu"), strict=True):
            assert torch.equal(a, b)


# --- wrong calls ---------------------------------------------------------------------------------

FOUND = neighbours(4, 2)
GATE = Gate(torch.arange(3), torch.ones(3, dtype=torch.int64))
Z, Y = torch.zeros(3, 2), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replacement_gate(FOUND, probability=1.1), r"probability: .*\[0, 1\], got 1.1"),
        (lambda: replacement_gate(FOUND, probability=-0.1), "probability: .*got -0.1"),
        (lambda: replacement_gate(FOUND, probability=math.nan), "probability: .*got nan"),
        (lambda: replacement_gate({}, probability=2), "probability: .*got 2"),
        (lambda: ReplacementGate(2.0).eval()(FOUND), "probability: .*got 2.0"),
        (
            lambda: replacement_gate(FOUND, probability=torch.tensor(0.5)),
            r"probability: .*got tensor\(0.5",
        ),
        (
            lambda: replacement_gate(FOUND.indices, probability=0.5),
            "negatives: expected HardNegatives.*got Tensor",
        ),
        (
            lambda: replacement_gate({"audio": tuple(FOUND)}, probability=0.5),
            r"negatives\['audio'\]: expected HardNegatives.*got tuple",
        ),
        (
            lambda: replacement_gate(FOUND._replace(indices=None), probability=0.5),
            "negatives.indices: expected a tensor, got NoneType",
        ),
        (
            lambda: replacement_gate(FOUND._replace(indices=FOUND.scores), probability=0.5),
            r"negatives.indices: expected integer \(B, K\), got torch.float32 \(4, 2\)",
        ),
        (
            lambda: replacement_gate(FOUND._replace(indices=torch.arange(4)), probability=0.5),
            r"negatives.indices: expected integer \(B, K\), got torch.int64 \(4,\)",
        ),
        (
            lambda: replacement_gate(
                {"a": FOUND._replace(valid=FOUND.valid[:3])}, probability=0, training=False
            ),
            r"negatives\['a'\].valid: expected shape \(4, 2\), got \(3, 2\)",
        ),
        (
            lambda: replacement_gate(FOUND._replace(valid=FOUND.scores), probability=0.5),
            "negatives.valid: expected a bool mask, got torch.float32",
        ),
        (lambda: GATE.take(Z, Z[:2]), r"tensors: expected at least 3 rows each, got \(2, 2\)"),
        (lambda: GATE.take(torch.tensor(1.0)), r"tensors: expected at least 3 rows each, got \(\)"),
        (
            lambda: GATE._replace(source=torch.tensor([0, 3, 1])).take(torch.zeros(4, 1), Z),
            "source: expected indices from 0 to 2, of these rows, not of a group's, got 3",
        ),
        (
            lambda: GATE._replace(source=torch.tensor([0, -1, 1])).take(Z),
            "source: expected indices from 0 to 2, .*got -1",
        ),
        (lambda: GATE.take([1, 2, 3]), "tensors: expected a tensor, got list"),
        (lambda: uniform_negatives(torch.tensor(1.0), 2), r"anchors: expected .*\(B, ...\).*\(\)"),
        (lambda: uniform_negatives(4, 2), "anchors: expected a tensor, got int"),
        (lambda: uniform_negatives(Z, 0), "k: expected an int of at least 1, got 0"),
        (lambda: uniform_negatives(Z, 1.5), "k: expected an int of at least 1, got 1.5"),
        (
            lambda: uniform_negatives(Z, 1, allowed=torch.ones(2, 2).bool()),
            r"allowed: expected shape \(3, 3\), got \(2, 2\)",
        ),
        (
            lambda: uniform_negatives(Z, 1, allowed=torch.ones(3, 3)),
            "allowed: expected a bool mask, got torch.float32",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
