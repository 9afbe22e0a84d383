"""TeCaFN: its equations sample by sample, who is replaced by whom, every row of its tables."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmcontrast
from reference_models.layers.inputs import MODALITIES
from reference_models.layers.transformer import DROPOUTS
from reference_models.tecafn.network import TeCaFN
from reference_models.tecafn.settings import CHOICES, TeCaFNConfig
from tests import oracles
from tests.reference_models.batches import (
    SIZES,
    STEPS,
    batch_of,
    cast,
    fill_absent,
    lacking,
    samples,
    small_text_encoder,
)

SMALL = {
    "hidden_size": 6,
    "contrast_size": 4,
    "layers": 1,
    "heads": 2,
    "head_dropout": 0.0,
    **dict.fromkeys(DROPOUTS, 0.0),
}


PARTS = ((), ("audio",), ("text", "vision"), MODALITIES)
SWITCHES = {
    **CHOICES,
    "lstm": (False, True),
    "normalize": (False, True),
    "contrast_weight": (0.0, 0.1),
    "pair_weight": (0.0, 0.1),
    "probability": (0.0, 0.5, 1.0),
    "pool_size": (1, 3),
    "unimodal_contrast": PARTS,
    "gate": PARTS,
    "hard_mining": PARTS,
    "bimodal_contrast": (False, True),
}


NO_PARTS = {"unimodal_contrast": (), "gate": (), "bimodal_contrast": False}


def network(modalities=MODALITIES, *, encoded=False, seed=None, **settings):
    torch.manual_seed(5)
    text_encoder = small_text_encoder() if encoded else None
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    config = TeCaFNConfig(**{**SMALL, **settings})
    sizes = {m: SIZES[m] for m in modalities}
    return TeCaFN(config, sizes, text_encoder, generator=generator)


def with_gaps(batch):
    """Samples 0 to 4 lack audio, vision, both, text, everything."""
    return lacking(batch, audio=[0, 2, 4], vision=[1, 2, 4], text=[3, 4])


@pytest.fixture
def gates(monkeypatch):
    """Every gate that was opened, in order."""
    opened, original = [], mmcontrast.replacement_gate

    def listen(*args, **kwargs):
        opened.append(original(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(mmcontrast, "replacement_gate", listen)
    return opened


# ------------------------------------------------------------------------- sample by sample


def linear(layer, x):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def lstm_by_hand(lstm, x):
    """(T, d) to (T, d), gates in torch's order: input, forget, cell, output."""
    h = c = torch.zeros(lstm.hidden_size, dtype=x.dtype)
    states = []
    for step in x:
        z = lstm.weight_ih_l0 @ step + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
        i, f, g, o = z.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


def states_by_hand(model, batch, name, i):
    """One sample's real steps behind eq 4, (T, d); no step where it lacks the modality."""
    length = int(batch.masks[name][i].sum()) * bool(batch.present[name][i])
    x = batch.features[name][i, :length]
    if name == "text":
        return x
    encoder = model.encoders[name]
    x = linear(encoder.input, x)
    if length == 0:
        return x
    x = encoder.transformer(x[None], torch.ones(1, length, dtype=torch.bool))[0]
    return x if encoder.lstm is None else lstm_by_hand(encoder.lstm, x)


def asked_by_hand(attention, center, other):
    """(d,) the mean over the centre's steps of what it gets; a missing other is no key at all."""
    if len(center) == 0:
        return torch.zeros(attention.query.out_features, dtype=center.dtype)
    query, context = linear(attention.query, center), linear(attention.context, other)
    if len(other) == 0:
        context = torch.full((1, query.shape[1]), math.nan, dtype=query.dtype)
    x = attention.transformer(
        query[None],
        torch.ones(1, len(center), dtype=torch.bool),
        context[None],
        torch.full((1, len(context)), len(other) > 0),
    )[0]
    first, _, last = attention.output
    return linear(last, linear(first, x).relu()).mean(0)


def mean_by_hand(x):
    return x.mean(0) if len(x) else torch.zeros(x.shape[1], dtype=x.dtype)


def by_hand(model, batch, sources):
    """Prediction and terms, with sample i's modality out of sample sources[name][i]."""
    config = model.config
    names = [m for m in batch.modalities if m != config.center] or [config.center]
    n = len(batch)
    states = {m: [states_by_hand(model, batch, m, i) for i in range(n)] for m in batch.modalities}
    center = states[config.center]
    got = {
        m: [
            asked_by_hand(model.attention[m], center[i], states[m][sources[m][i]]) for i in range(n)
        ]
        for m in names
    }
    joined = [torch.stack([got[m][i] for m in names]) for i in range(n)]
    fused = torch.stack([x.flatten() if config.fusion == "concat" else x.sum(0) for x in joined])
    x = fused
    for layer in (1, 3, 6):
        x = linear(model.head[layer], x).tanh()
    prediction = linear(model.head[8], x)[:, 0]
    if config.output is not None:
        prediction = prediction.tanh() * {"tanh": 1, "3tanh": 3}[config.output]

    def contrast(x, y, here):
        x, y = (torch.stack(rows)[here].detach().numpy() for rows in (x, y))
        loss = oracles.info_nce if config.denominator == "all" else oracles.matched_pair_nce
        return loss(
            x, y, temperature=config.temperature, normalize="l2" if config.normalize else None
        )

    here = {m: [len(center[i]) > 0 and len(states[m][i]) > 0 for i in range(n)] for m in names}
    unimodal = bimodal = pair = 0.0
    for m in names:
        if m in config.unimodal_contrast and m != config.center:
            f, g = model.ranking[m]
            x = [linear(f, mean_by_hand(center[i])) for i in range(n)]
            y = [linear(g, mean_by_hand(states[m][i])) for i in range(n)]
            unimodal += contrast(x, y, here[m])
        if m in config.gate and m != config.center:
            first, _, last = model.pair_heads[m]
            kept = [i for i in range(n) if here[m][i]]
            logits = [linear(last, linear(first, got[m][i]).relu()).tolist() for i in kept]
            paired = [int(sources[m][i] == i) for i in kept]
            pair += oracles.pair_prediction(logits, paired)
    if len(names) == 2:
        f, g = model.bimodal
        x, y = ([linear(e, z) for z in got[m]] for e, m in zip((f, g), names, strict=True))
        everything = [all(pair) for pair in zip(*here.values(), strict=True)]
        bimodal = contrast(x, y, everything) + contrast(y, x, everything)
    task = sum(abs(p - y) for p, y in zip(prediction.tolist(), batch.labels.tolist(), strict=True))
    terms = {"task": task / n, "unimodal": unimodal, "bimodal": bimodal, "pair": pair}
    return prediction, fused, terms


VARIANTS = [
    {},
    {"center": "audio"},
    {"center": "vision", "fusion": "concat", "lstm": True},
    {"residual": "normed", "layers": 2},
    {"lstm": True, "output": "tanh"},
    {"denominator": "paper_literal", "normalize": False, "output": "3tanh"},
    {"normalize": False, "temperature": 0.7},
    {"hard_mining": ("audio",), "gate": ("vision",)},
    {"modalities": ("text", "audio")},
    {"modalities": ("text",), "fusion": "concat"},
    {"modalities": ("vision", "audio"), "center": "audio", "fusion": "concat"},
    {"modalities": ("vision", "text", "audio")},
]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_prediction_and_terms_are_the_equations(variant, gaps, gates):
    variant = dict(variant)
    modalities = variant.pop("modalities", MODALITIES)
    model = network(modalities, seed=3, **variant).double()
    batch = cast(batch_of(9, modalities, seed=4), torch.float64)
    if gaps:
        batch = with_gaps(batch)
    config = model.config
    own = {m: list(range(9)) for m in MODALITIES}

    output = model.eval()(batch)
    prediction, fused, terms = by_hand(model, batch, own)
    torch.testing.assert_close(output.prediction, prediction, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(output.fused, fused, rtol=1e-5, atol=1e-8)
    assert gates == []
    assert list(output.terms) == ["task"]
    assert output.terms.total.item() == pytest.approx(terms["task"], rel=1e-5)

    output = model.train()(batch)
    gated = [m for m in modalities if m in config.gate and m != config.center]
    sources = own | {m: g.source.tolist() for m, g in zip(gated, gates, strict=True)}
    assert (sources == own) == (not gated)
    prediction, fused, terms = by_hand(model, batch, sources)
    torch.testing.assert_close(output.prediction, prediction, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(output.fused, fused, rtol=1e-5, atol=1e-8)
    assert list(output.terms) == ["task", "unimodal", "bimodal", "pair"]
    for name, value in output.terms.items():
        assert value.item() == pytest.approx(terms[name], rel=1e-4, abs=1e-12), name
    weights = {"task": 1.0, "unimodal": 0.1, "bimodal": 0.1, "pair": 0.1}
    expected = {m: w if m == "task" or terms[m] else 0.0 for m, w in weights.items()}
    assert output.terms.weights == expected


def test_each_term_has_its_weight():
    terms = network(contrast_weight=0.3, pair_weight=0.7).train()(batch_of()).terms
    assert terms.weights == {"task": 1.0, "unimodal": 0.3, "bimodal": 0.3, "pair": 0.7}


def test_settings_reach_the_transformers():
    model = TeCaFN(
        TeCaFNConfig(
            hidden_size=12,
            layers=2,
            heads=3,
            attention_dropout=0.15,
            relu_dropout=0.2,
            residual_dropout=0.25,
            embed_dropout=0.35,
            head_dropout=0.4,
            residual="normed",
        ),
        SIZES,
    )
    blocks = [*model.encoders.values(), *model.attention.values()]
    assert len(blocks) == 4
    for block in blocks:
        assert block.transformer.dropout.p == 0.35
        assert len(block.transformer.layers) == 2
        for layer in block.transformer.layers:
            assert layer.attention.num_heads == 3
            assert layer.order == "normed"
            assert layer.linear1.out_features == 48
            found = layer.attention.dropout, layer.relu_dropout.p, layer.residual_dropout.p
            assert found == (0.15, 0.2, 0.25)
    assert [layer.p for layer in model.head if isinstance(layer, nn.Dropout)] == [0.4, 0.4]


def test_the_defaults_are_the_published_architecture():
    model = TeCaFN(TeCaFNConfig(), {"text": 768, "audio": 74, "vision": 35})
    blocks = [*model.encoders.values(), *model.attention.values()]
    assert [len(block.transformer.layers) for block in blocks] == [6] * 4
    assert {block.transformer.size for block in blocks} == {30}
    assert [layer.out_features for layer in model.head if isinstance(layer, nn.Linear)] == [
        128,
        256,
        128,
        1,
    ]
    assert {tuple(f.weight.shape) for f, _ in model.ranking.values()} == {(30, 768)}
    assert {tuple(g.weight.shape) for _, g in model.ranking.values()} == {(30, 30)}


@pytest.mark.parametrize("center", MODALITIES)
def test_token_ids_go_through_the_text_encoder(center):
    model = network(encoded=True, center=center).eval()
    batch = batch_of(encoded=True)
    states = torch.zeros(6, STEPS["text"], 8)
    for row in range(6):
        real = batch.features["text"][row, batch.masks["text"][row]].unsqueeze(0)
        states[row, : real.shape[1]] = model.text_encoder(real).last_hidden_state[0]
    read = replace(batch, features={**batch.features, "text": states})
    prediction = model(batch).prediction
    model.text_encoder = None
    torch.testing.assert_close(prediction, model(read).prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", CHOICES["head"])
@pytest.mark.parametrize("output", CHOICES["output"])
def test_heads_and_outputs(head, output):
    """The activation is for a score; classes have logits."""
    batch = batch_of(head=head)
    model = network(head=head, output=output).eval()
    with torch.no_grad():
        model.head[-1].bias.fill_(20.0)
    prediction = model(batch).prediction
    shape = {"regression": (6,), "humor": (6, 2), "iemocap": (6, 4, 2)}[head]
    assert prediction.shape == shape
    limit = {None: math.inf, "tanh": 1.0, "3tanh": 3.0}[output]
    if head == "regression" and output is not None:
        torch.testing.assert_close(prediction, torch.full(shape, limit))
    else:
        assert (prediction > 15).all()
    plain = nn.functional.cross_entropy if head != "regression" else nn.functional.l1_loss
    expected = plain(
        prediction.flatten(0, -2) if head != "regression" else prediction, batch.labels.flatten()
    )
    torch.testing.assert_close(model(batch).terms["task"], expected)


# ------------------------------------------------------------------------- the gate


def test_the_gate_has_the_probabilities_of_table_2(gates):
    model = network(seed=1, probability=0.7).train()
    counts, batch = Counter(), batch_of(300)
    with torch.no_grad():
        for _ in range(10):
            model(batch)
    for audio, vision in zip(gates[::2], gates[1::2], strict=True):
        counts.update(zip(audio.paired.tolist(), vision.paired.tolist(), strict=True))
    for outcome, share in oracles.outcome_probabilities(0.7, 2).items():
        spread = math.sqrt(3000 * share * (1 - share))
        assert abs(counts[outcome] - 3000 * share) < 5 * spread, outcome


@pytest.mark.parametrize("hard_mining", [(), MODALITIES])
@pytest.mark.parametrize("probability", [0, 1])
def test_nobody_or_everybody_is_replaced(probability, hard_mining, gates):
    model = network(probability=probability, hard_mining=hard_mining).train()
    model(batch_of())
    assert len(gates) == 2
    for gate in gates:
        assert gate.paired.tolist() == [1 - probability] * 6
        assert (gate.source == torch.arange(6)).all() == (probability == 0)
        assert (gate.source == torch.arange(6)).any() == (probability == 0)


def test_a_closed_gate_predicts_as_in_evaluation():
    model, batch = network(probability=0.0), batch_of()
    torch.testing.assert_close(model.train()(batch).prediction, model.eval()(batch).prediction)


def embeddings(model, batch, name):
    """(B, contrast_size) of the centre and of one modality, sample by sample."""
    f, g = model.ranking[name]
    center = model.config.center
    pairs = [
        (
            linear(f, mean_by_hand(states_by_hand(model, batch, center, i))),
            linear(g, mean_by_hand(states_by_hand(model, batch, name, i))),
        )
        for i in range(len(batch))
    ]
    return (torch.stack(rows).detach().numpy() for rows in zip(*pairs, strict=True))


@pytest.mark.parametrize(
    ("center", "pool_size", "normalize"),
    [("text", 1, True), ("vision", 1, False), ("text", 3, False), ("vision", 3, True)],
)
def test_replacements_are_the_most_similar_others(center, pool_size, normalize, gates):
    model = network(
        center=center, pool_size=pool_size, probability=1.0, normalize=normalize
    ).train()
    batch = with_gaps(batch_of(12))
    with torch.no_grad():
        for _ in range(1 if pool_size == 1 else 40):
            model(batch)
    present = {m: x.tolist() for m, x in batch.present.items()}
    for at, name in enumerate(m for m in MODALITIES if m != center):
        allowed = [
            [present[center][i] and present[name][i] and present[name][j] for j in range(12)]
            for i in range(12)
        ]
        pools = oracles.hard_negatives(*embeddings(model, batch, name), pool_size, allowed=allowed)
        for i, pool in enumerate(pools):
            drawn = {gate.source[i].item() for gate in gates[at::2]}
            assert drawn == ({j for j, _ in pool} or {i})


def test_the_sample_itself_may_leave_the_pool_afterwards(gates):
    batch = batch_of(12)
    usual = network(pool_size=1, probability=1.0).train()
    usual(batch)
    after = network(pool_size=1, probability=1.0, exclude_positive="after").train()
    after(batch)
    for at, name in enumerate(("audio", "vision")):
        ranked = oracles.hard_negatives(
            *embeddings(usual, batch, name), 1, targets=torch.full((12,), -100)
        )
        own = [pool[0][0] == i for i, pool in enumerate(ranked)]
        assert any(own)
        assert gates[at].paired.tolist() == [0] * 12
        assert gates[2 + at].paired.tolist() == [int(kept) for kept in own]


def test_without_mining_every_other_sample_is_drawn(gates):
    model = network(hard_mining=("vision",), pool_size=1, probability=1.0, seed=2).train()
    batch = with_gaps(batch_of(8))
    with torch.no_grad():
        for _ in range(60):
            model(batch)
    have = [i for i in range(8) if batch.present["audio"][i]]
    for i in range(8):
        drawn = {gate.source[i].item() for gate in gates[::2]}
        replaced = i in have and batch.present["text"][i]
        assert drawn == (set(have) - {i} if replaced else {i})
        assert len({gate.source[i].item() for gate in gates[1::2]}) == 1


def test_a_mask_goes_with_its_sequence(gates):
    """A sample of one step takes the other's many steps, and all of them count."""
    model, batch = network(("text", "audio"), probability=1.0).train(), batch_of(2)
    x = torch.randn(2, 7, SIZES["audio"])
    masks = {**batch.masks, "audio": torch.arange(7) < torch.tensor([[1], [7]])}
    batch = replace(batch, features={**batch.features, "audio": x}, masks=masks)
    taken = model(batch).prediction
    assert gates[0].source.tolist() == [1, 0]
    order = [1, 0]
    swapped = replace(
        batch,
        features={**batch.features, "audio": x[order]},
        masks={**masks, "audio": masks["audio"][order]},
    )
    torch.testing.assert_close(taken, model.eval()(swapped).prediction)
    short = replace(swapped, masks=masks)
    assert not torch.isclose(taken, model(short).prediction).any()


def test_the_target_stays_the_centres():
    """All else out of other samples, the loss is still against each sample's own label."""
    model, batch = network(probability=1.0).train(), batch_of()
    output = model(batch)
    assert (output.prediction != model.eval()(batch).prediction).all()
    expected = (output.prediction - batch.labels).abs().mean()
    torch.testing.assert_close(output.terms["task"], expected)


@pytest.mark.parametrize("hard_mining", [(), MODALITIES])
def test_a_batch_of_one_has_nobody_to_take(hard_mining, gates):
    model, batch = network(probability=1.0, hard_mining=hard_mining).train(), batch_of(1)
    output = model(batch)
    assert [gate.source.tolist() + gate.paired.tolist() for gate in gates] == [[0, 1]] * 2
    assert output.terms["unimodal"].item() == output.terms["bimodal"].item() == 0
    assert output.terms["pair"].item() > 0
    torch.testing.assert_close(output.prediction, model.eval()(batch).prediction)
    output.terms.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("hard_mining", [(), MODALITIES])
def test_the_draws_come_from_the_generator(hard_mining, gates):
    batch = batch_of(12)

    def drawn(seed, others):
        gates.clear()
        model = network(seed=seed, hard_mining=hard_mining).train()
        torch.manual_seed(others)
        for _ in range(2):
            model(batch)
        return [gate.source.tolist() for gate in gates]

    assert drawn(1, 7) == drawn(1, 8)
    assert drawn(1, 7) != drawn(2, 7)
    first = drawn(1, 7)
    assert first[:2] != first[2:]
    assert first[0] != first[1]


@pytest.mark.parametrize("center", ["text", "audio"])
def test_what_stands_in_an_absent_modality_does_not_matter(center):
    """And it replaces nobody: with every sample replaced, its values still reach nothing."""
    batch, results = with_gaps(batch_of(9)), []
    for fill in (0.0, 1e6, math.nan):
        model = network(center=center, lstm=True, probability=1.0, seed=2).train()
        output = model(fill_absent(batch, fill))
        output.terms.total.backward()
        gradients = [p.grad for p in model.parameters()]
        results.append([output.prediction, output.fused, *output.terms.values(), *gradients])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert all(x.isfinite().all() for x in results[0])


def test_samples_that_lack_one_of_the_two_do_not_count():
    """Their labels and their presence in the batch change no contrastive term."""
    model, batch = network(probability=0.0).train(), with_gaps(batch_of(9))
    terms = model(batch).terms
    whole = samples(batch, slice(5, None))
    torch.testing.assert_close(terms["bimodal"], model(whole).terms["bimodal"])
    terms = model(lacking(batch, text=list(range(9)))).terms
    assert [terms[name].item() for name in ("unimodal", "bimodal", "pair")] == [0, 0, 0]
    terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# ------------------------------------------------------------------------- the second contrast


class Fixed(nn.Module):
    """An attention that gives what it is given."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def forward(self, center, other):
        return self.steps


def test_the_second_contrast_is_over_samples():
    model, batch = network().train(), batch_of()
    audio, vision = (torch.randn(6, STEPS["text"], 6) for _ in range(2))

    def bimodal(x, y):
        model.attention["audio"], model.attention["vision"] = Fixed(x), Fixed(y)
        return model(batch).terms["bimodal"].item()

    value = bimodal(audio, vision)
    mixed = audio.clone()
    for row, mask in enumerate(batch.masks["text"]):
        real = int(mask.sum())
        mixed[row, :real] = audio[row, torch.randperm(real)]
        mixed[row, real:] = 1e6
    assert bimodal(mixed, vision) == pytest.approx(value, rel=1e-4)
    assert bimodal(audio[torch.tensor([1, 2, 3, 4, 5, 0])], vision) != pytest.approx(
        value, rel=0.01
    )
    same = torch.ones_like(audio)
    assert bimodal(same, same) == pytest.approx(2 * math.log(6), rel=1e-5)


# ------------------------------------------------------------------------- what is off is not there


def refuse(*args, **kwargs):
    raise AssertionError("this should not run")


CONTRASTIVE = (
    "gather",
    "hard_negatives",
    "info_nce",
    "matched_pair_nce",
    "pair_prediction",
    "replacement_gate",
    "uniform_negatives",
)


@pytest.mark.parametrize("settings", [{}, NO_PARTS, {"modalities": ("text",)}], ids=str)
def test_no_contrastive_code_runs_where_it_is_not_needed(settings, monkeypatch):
    settings = dict(settings)
    modalities = settings.pop("modalities", MODALITIES)
    model, batch = network(modalities, **settings), batch_of(modalities=modalities)
    model.train(bool(settings) or len(modalities) == 1)
    for name in CONTRASTIVE:
        monkeypatch.setattr(mmcontrast, name, refuse)
    terms = model(batch).terms
    assert set(terms) == ({"task", "unimodal", "bimodal", "pair"} if model.training else {"task"})
    assert terms.total.item() == terms["task"].item()
    assert not model.training or terms.weights == {
        "task": 1.0,
        "unimodal": 0.0,
        "bimodal": 0.0,
        "pair": 0.0,
    }


@pytest.mark.parametrize(
    ("settings", "ranking", "frozen", "pairs", "bimodal"),
    [
        ({}, {"audio", "vision"}, set(), {"audio", "vision"}, True),
        (
            {"unimodal_contrast": ("vision",)},
            {"audio", "vision"},
            {"audio"},
            {"audio", "vision"},
            1,
        ),
        ({"unimodal_contrast": (), "hard_mining": ()}, set(), set(), {"audio", "vision"}, True),
        ({"unimodal_contrast": (), "gate": ("audio",)}, {"audio"}, {"audio"}, {"audio"}, True),
        ({"gate": ()}, {"audio", "vision"}, set(), set(), True),
        ({"pair_weight": 0.0}, {"audio", "vision"}, set(), set(), True),
        (
            {"contrast_weight": 0.0},
            {"audio", "vision"},
            {"audio", "vision"},
            {"audio", "vision"},
            0,
        ),
        ({"bimodal_contrast": False}, {"audio", "vision"}, set(), {"audio", "vision"}, False),
        ({"contrast_weight": 0.0, "gate": ()}, set(), set(), set(), False),
        ({"center": "audio"}, {"text", "vision"}, set(), {"text", "vision"}, True),
        (NO_PARTS, set(), set(), set(), False),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_what_is_switched_off_has_no_parameters(settings, ranking, frozen, pairs, bimodal):
    """Of a ranking that nothing trains the mining is left, with random weights that stay."""
    model = network(**settings).train()
    assert set(model.ranking) == ranking
    assert set(model.pair_heads) == pairs
    assert (model.bimodal is not None) == bimodal
    model(batch_of(12)).terms.total.backward()
    for name, parameter in model.named_parameters():
        untrained = name.startswith(tuple(f"ranking.{m}." for m in frozen))
        assert parameter.requires_grad == (not untrained), name
        assert (parameter.grad is None) == untrained, name


def test_a_ranking_that_nothing_trains_is_still_mined_with(gates):
    batch = batch_of(12)
    for factor in (1, -1):
        model = network(unimodal_contrast=(), pool_size=1, probability=1.0).train()
        with torch.no_grad():
            model.ranking["audio"][0].weight.mul_(factor)
        model(batch)
    assert not torch.equal(gates[0].source, gates[2].source)
    assert torch.equal(gates[1].source, gates[3].source)


def test_mining_and_gates_pass_no_gradient():
    """With the pair prediction alone, the ranking gets none."""
    model = network(pair_weight=1.0).train()
    terms = model(batch_of()).terms
    terms["pair"].backward()
    assert all(p.grad is None for p in model.ranking.parameters())
    assert all(p.grad.any() for p in model.pair_heads.parameters())
    assert all(p.grad.any() for p in model.encoders["audio"].parameters())


@pytest.mark.parametrize(
    ("term", "moved", "still"),
    [
        ("unimodal", ("ranking", "encoders"), ("attention", "head", "pair_heads", "bimodal")),
        ("bimodal", ("bimodal", "attention", "encoders"), ("head", "pair_heads", "ranking")),
        ("pair", ("pair_heads", "attention", "encoders"), ("head", "bimodal", "ranking")),
        ("task", ("head", "attention", "encoders"), ("pair_heads", "bimodal", "ranking")),
    ],
)
def test_each_term_reaches_its_part(term, moved, still):
    model = network(encoded=True).train()
    model(batch_of(encoded=True)).terms[term].backward()

    def reached(part):
        grads = [p.grad for p in getattr(model, part).parameters()]
        return any(g is not None and g.any() for g in grads)

    assert all(map(reached, (*moved, "text_encoder")))
    assert not any(map(reached, still))


def test_it_makes_no_tensor_elsewhere_and_reads_no_value():
    """The meta device has no values, and a tensor made on the CPU cannot meet one of its own."""
    batch = batch_of()
    batch = replace(batch.to("meta"), index=batch.index)
    for settings in ({"lstm": True}, {"hard_mining": (), "denominator": "paper_literal"}):
        output = network(**settings).to("meta").train()(batch)
        output.terms.total.backward()
        assert output.prediction.device.type == output.terms.total.device.type == "meta"


@given(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SWITCHES.items()}),
    st.sets(st.sampled_from(MODALITIES)),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
)
def test_any_combination_runs(settings, others, gaps, size):
    modalities = [m for m in MODALITIES if m in others | {settings["center"]}]
    batch = batch_of(size, modalities, head=settings["head"])
    if gaps and size == 5:
        batch = with_gaps(batch)
    model = network(modalities, **settings).train()
    output = model(batch)
    output.terms.total.backward()
    assert output.terms.total.isfinite()
    assert set(output.terms) == {"task", "unimodal", "bimodal", "pair"}
    for name, p in model.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), name
        assert p.grad is None or p.grad.isfinite().all()
    assert list(model.eval()(batch).terms) == ["task"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, r"sizes: expected one or more of .*, got \(\)"),
        ({"text": 6, "smell": 2}, r"sizes: expected .*'vision'\), got \('text', 'smell'\)"),
        ({"audio": 6, "vision": 2}, r"sizes: expected the centre, text, got \('audio', 'vision'\)"),
    ],
)
def test_other_modalities_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        TeCaFN(TeCaFNConfig(), sizes)
