"""mmcontrast.interop.sentence_transformers against sentence-transformers itself."""

import copy

import pytest
import torch

import mmcontrast as mm
from mmcontrast.interop.sentence_transformers import InfoNCELoss, checkpoint_loss
from tests.mmcontrast.peers import peer, same_value_and_gradient

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ["red", "blue", "cat", "dog", "runs", "sleeps", "here", "there"]
COLUMNS = ["anchor", "positive", "negative"]


def sentences():
    """Triplets of an animal that does something, in two orders of words, and another animal."""
    rows = []
    for animal, other in (("cat", "dog"), ("dog", "cat")):
        for colour in ("red", "blue"):
            for verb in ("runs", "sleeps"):
                rows.append((f"{colour} {animal} {verb}", f"{verb} {animal} {colour} here"))
                rows[-1] += (f"{colour} {other} {verb}",)
    return dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))


@pytest.fixture
def model(tmp_path):
    """A tiny BERT made from its configuration, with a tokenizer of a dozen words."""
    library = peer("sentence_transformers")
    transformers = peer("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    folder = str(tmp_path / "bert")
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = peer("sentence_transformers.models")
    bert = modules.Transformer(folder, max_seq_length=8)
    pooling = modules.Pooling(bert.get_word_embedding_dimension())
    return library.SentenceTransformer(modules=[bert, pooling], device="cpu")


def features(model, columns=COLUMNS):
    return [model.tokenize(list(sentences()[name])) for name in columns]


def peer_loss(model, temperature, symmetric):
    losses = peer("sentence_transformers.losses")
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    settings = both if symmetric else {}
    return losses.MultipleNegativesRankingLoss(model, scale=1 / temperature, **settings)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("negatives", [0, 1, 2])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_it_is_multiple_negatives_ranking(symmetric, negatives, temperature, generator):
    rows = [
        torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2 + negatives)
    ]
    ours = InfoNCELoss(torch.nn.Identity(), temperature=temperature, symmetric=symmetric)
    theirs = peer_loss(torch.nn.Identity(), temperature, symmetric)
    same_value_and_gradient(
        lambda *x: sum(ours.compute_loss_from_embeddings(x).values()),
        lambda *x: theirs.compute_loss_from_embeddings(list(x), None),
        *rows,
    )


def test_one_softmax_over_both_directions_is_another_loss(generator):
    losses = peer("sentence_transformers.losses")
    rows = [torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2)]
    joint = losses.MultipleNegativesRankingLoss(
        torch.nn.Identity(), directions=("query_to_doc", "doc_to_query")
    )
    ours = InfoNCELoss(torch.nn.Identity(), symmetric=True, components=False)
    gap = joint.compute_loss_from_embeddings(rows, None) - ours.compute_loss_from_embeddings(rows)
    assert gap > 0.1


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS])
def test_on_its_model_it_is_its_loss(model, symmetric, columns):
    """The same value, and the same gradients of the model's parameters."""
    found = []
    for loss in (
        InfoNCELoss(model, symmetric=symmetric, components=False),
        peer_loss(model, 0.05, symmetric),
    ):
        model.zero_grad()
        value = loss(features(model, columns), None)
        value.backward()
        found.append([value, *(p.grad for p in model.parameters() if p.grad is not None)])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_the_parts_sum_to_the_loss(model):
    parts = InfoNCELoss(model, symmetric=True)(features(model))
    assert list(parts) == ["query_to_doc", "doc_to_query"]
    whole = InfoNCELoss(model, symmetric=True, components=False)(features(model))
    torch.testing.assert_close(sum(parts.values()), whole)
    assert list(InfoNCELoss(model)(features(model))) == ["query_to_doc"]


def test_its_wrappers_take_it(model):
    losses = peer("sentence_transformers.losses")
    values = [
        losses.MatryoshkaLoss(model, loss, [16, 8])(features(model), None)
        for loss in (InfoNCELoss(model, components=False), peer_loss(model, 0.05, False))
    ]
    torch.testing.assert_close(*values)


def test_settings_and_citation():
    settings = InfoNCELoss(torch.nn.Identity(), temperature=0.1).get_config_dict()
    assert settings == {
        "temperature": 0.1,
        "symmetric": False,
        "components": True,
        "normalize": "l2_normalize",
        "chunk_size": None,
    }
    learned = InfoNCELoss(torch.nn.Identity(), temperature=mm.LearnableTemperature(0.07))
    assert learned.get_config_dict()["temperature"] == pytest.approx(0.07)
    for symmetric, source in ((False, "1807.03748"), (True, "Natural Language Supervision")):
        loss = InfoNCELoss(torch.nn.Identity(), symmetric=symmetric)
        assert source in loss.citation
        assert loss.citation.count("{") == loss.citation.count("}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: InfoNCELoss(m, temperature=0.0), "temperature: expected a number above 0"),
        (
            lambda m: InfoNCELoss(m).compute_loss_from_embeddings([torch.eye(2)]),
            "embeddings: expected anchors and positives at least, got 1",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.nn.Identity())


def test_its_model_trains_with_it_in_a_loop(model):
    """Without the trainer, which wants yet another library: ``datasets``."""
    loss = InfoNCELoss(model, symmetric=True)
    optimizer = torch.optim.AdamW(loss.parameters(), 5e-3)
    curve = []
    for _ in range(20):
        optimizer.zero_grad()
        total = sum(loss(features(model)).values())
        total.backward()
        optimizer.step()
        curve.append(total.item())
    assert curve[-1] < 0.5 * curve[0]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [COLUMNS[:2], COLUMNS])
def test_its_trainer_trains_with_it(model, columns, tmp_path):
    library, datasets = peer("sentence_transformers"), peer("datasets")
    data = datasets.Dataset.from_dict({name: sentences()[name] for name in columns})
    temperature = mm.LearnableTemperature(0.1)
    loss = InfoNCELoss(model, temperature=temperature, symmetric=True)
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=8,
        num_train_epochs=20,
        learning_rate=5e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = library.SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss)
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(history) == 20
    for entry in history:
        parts = entry["query_to_doc"] + entry["doc_to_query"]
        assert float(entry["loss"]) == pytest.approx(parts, abs=2e-3)
    assert float(history[-1]["loss"]) < 0.5 * float(history[0]["loss"])
    assert abs(temperature() - 0.1) > 1e-3
    model.save_pretrained(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "InfoNCELoss" in card
    assert '"symmetric": true' in card


# --- checkpoints ---------------------------------------------------------------------------------


def wrapped(model, temperature):
    """One loss, a loss in the library's wrapper, or one for each of two data sets."""
    losses = peer("sentence_transformers.losses")
    learned = InfoNCELoss(model, temperature=temperature, components=False)
    return {
        "one": learned,
        "wrapped": losses.MatryoshkaLoss(model, learned, [16, 8]),
        "several": {"a": learned, "b": InfoNCELoss(model, symmetric=True)},
    }


def run_of(model, folder, kind, steps, keep=True, resume=False, **settings):
    """Train to a step, in one go or from the checkpoint before it; the temperature, the model."""
    library, datasets = peer("sentence_transformers"), peer("datasets")
    temperature = mm.LearnableTemperature(0.1)
    loss = wrapped(model, temperature)[kind]
    data = datasets.Dataset.from_dict(sentences())
    if isinstance(loss, dict):
        data = {name: datasets.Dataset.from_dict(sentences()) for name in loss}
        data = datasets.DatasetDict(data)
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=steps,
        lr_scheduler_type="constant",
        learning_rate=5e-3,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"save_strategy": "steps", "save_steps": 3, **settings},
    )
    trainer = library.SentenceTransformerTrainer(
        model, arguments, train_dataset=data, eval_dataset=data, loss=loss
    )
    if keep:
        checkpoint_loss(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return temperature, trainer


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one", "wrapped", "several"])
def test_a_resumed_run_goes_on_with_its_temperature(model, kind, tmp_path):
    begun = copy.deepcopy(model)
    whole, _ = run_of(copy.deepcopy(begun), tmp_path / "whole", kind, 6)
    run_of(copy.deepcopy(begun), tmp_path / "cut", kind, 3)
    resumed, trainer = run_of(copy.deepcopy(begun), tmp_path / "cut", kind, 6, resume=True)
    assert trainer.state.global_step == 6
    assert abs(whole() - 0.1) > 1e-3
    torch.testing.assert_close(resumed(), whole(), rtol=1e-6, atol=0)
    state = torch.load(tmp_path / "cut" / "checkpoint-6" / "loss.pt", weights_only=True)
    assert not [key for part in state.values() for key in part if "model" in key]


@pytest.mark.slow
def test_the_best_model_comes_with_its_temperature(model, tmp_path):
    """The first of two checkpoints is the better one: what it had is back at the end."""
    temperature, trainer = run_of(
        model,
        tmp_path,
        "one",
        6,
        eval_strategy="steps",
        eval_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")
    state = torch.load(tmp_path / "checkpoint-3" / "loss.pt", weights_only=True)
    assert temperature.theta.item() == state[""]["temperature.theta"].item()


@pytest.mark.slow
def test_a_checkpoint_of_something_else_is_refused(model, tmp_path):
    """Without the file, or of another loss; nothing is loaded then."""
    run_of(model, tmp_path, "one", 3, keep=False)
    with pytest.raises(ValueError, match=r"checkpoint: expected loss.pt in it"):
        run_of(model, tmp_path, "one", 6, resume=True)
    torch.save({"": {"other": torch.ones(1)}}, tmp_path / "checkpoint-3" / "loss.pt")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"checkpoint: expected a state of the losses .* got .*other"
    ):
        run_of(model, tmp_path, "one", 6, resume=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_checkpoint_loss_needs_a_trainer_of_the_library():
    with pytest.raises(ValueError, match="trainer: expected a trainer of sentence-transformers"):
        checkpoint_loss(object())


# --- its mined negatives -------------------------------------------------------------------------


class Rows:
    """A model whose sentences are the numbers of rows."""

    device = torch.device("cpu")

    def __init__(self, anchors, candidates):
        unit = (mm.l2_normalize(x).numpy() for x in (anchors, candidates))
        self.anchors, self.candidates = unit

    def encode_query(self, texts, **_):
        return self.anchors[[int(text[1:]) for text in texts]]

    def encode_document(self, texts, **_):
        return self.candidates[[int(text[1:]) for text in texts]]

    def similarity(self, x, y):
        return torch.as_tensor(x) @ torch.as_tensor(y).T

    def similarity_pairwise(self, x, y):
        return (torch.as_tensor(x) * torch.as_tensor(y)).sum(-1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"range_min": 3}, {"skip": 3}),
        ({"max_score": 0.5, "min_score": 0.1}, {"below": 0.5, "above": 0.1}),
        ({"absolute_margin": 0.2}, {"margin": 0.2}),
        ({"relative_margin": 0.3}, {"relative_margin": 0.3}),
        (
            {"relative_margin": 0.1, "max_score": 0.6, "range_min": 1},
            {"relative_margin": 0.1, "below": 0.6, "skip": 1},
        ),
    ],
)
def test_limits_are_those_of_its_mined_negatives(theirs, ours):
    mine = peer("sentence_transformers.util").mine_hard_negatives
    dataset = peer("datasets").Dataset
    source = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 4, generator=source, dtype=torch.float64) for n in (12, 40))
    y[:12] += x  # partners are close, some closer than others
    pairs = {"anchor": [f"a{i}" for i in range(12)], "positive": [f"c{i}" for i in range(12)]}
    found = mine(
        dataset.from_dict(pairs),
        Rows(x, y),
        corpus=[f"c{i}" for i in range(40)],
        num_negatives=5,
        range_max=39,  # all others: it looks no farther, and ours does
        output_format="triplet",
        output_scores=True,
        verbose=False,
        **theirs,
    )
    expected = [
        (a, n, s[1])
        for a, n, s in zip(*(found[k] for k in ("anchor", "negative", "scores")), strict=True)
    ]
    mined = mm.hard_negatives(x, y, 5, **ours)
    rows, places = mined.valid.nonzero(as_tuple=True)
    columns = mined.indices[rows, places].tolist()
    assert [(f"a{i}", f"c{j}") for i, j in zip(rows.tolist(), columns, strict=True)] == [
        x[:2] for x in expected
    ]
    scores = torch.tensor([x[2] for x in expected], dtype=torch.float64)
    torch.testing.assert_close(mined.scores[mined.valid], scores)
    assert len(expected) > 20
