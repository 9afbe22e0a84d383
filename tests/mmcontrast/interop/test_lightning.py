"""mmcontrast.interop.lightning in Lightning's own Trainer, under both of its names."""

import pytest
import torch
from torch import nn

import mmcontrast as mm
from mmcontrast.interop.lightning import LossTermsMixin, log_terms
from tests.mmcontrast.peers import peer
from tests.mmcontrast.strategies import close

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("text", "audio", "vision")


def batches(sizes=(6, 6, 2)):
    """Three views of the same hidden rows, in batches of a dict; the last one is small."""
    source = torch.Generator().manual_seed(2)
    made = []
    for n in sizes:
        hidden = torch.randn(n, 4, generator=source)
        noise = {name: torch.randn(n, 4, generator=source) for name in NAMES}
        made.append({name: hidden + 0.1 * x for name, x in noise.items()})
    return made


def make(library, **settings):
    class Model(LossTermsMixin, library.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.towers = nn.ModuleDict({name: nn.Linear(4, 8) for name in NAMES})
            self.temperature = mm.LearnableTemperature(0.2)
            self.seen = []

        def terms(self, batch):
            found = {name: tower(batch[name]) for name, tower in self.towers.items()}
            return mm.anchored_info_nce(found, temperature=self.temperature())

        def training_step(self, batch, batch_idx):
            terms = self.terms(batch)
            total = self.log_terms(terms, batch_size=len(batch["text"]), **settings)
            assert torch.equal(total, terms.total)
            self.seen.append({name: value.item() for name, value in terms.items()})
            return total

        def validation_step(self, batch, batch_idx):
            self.log_terms(self.terms(batch), batch_size=len(batch["text"]), stage="val")

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.02)

    return Model()


def fit(library, model, folder, epochs):
    data = torch.utils.data.DataLoader(batches(), batch_size=None)
    trainer = library.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, data, data)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_terms_weights_and_total_are_logged_as_means_over_the_samples(name, tmp_path):
    library = peer(name)
    model = make(library, on_step=False, on_epoch=True)
    logged = fit(library, model, tmp_path, epochs=1)
    terms = ["text-audio", "text-vision"]
    expected = {f"train/{term}" for term in terms} | {f"train/{term}_weight" for term in terms}
    expected |= {"train/total"}
    assert {key for key in logged if key.startswith("train/")} == expected
    assert {key.replace("val/", "train/") for key in logged if key.startswith("val/")} == expected
    mean = {
        term: sum(n * row[term] for n, row in zip((6, 6, 2), model.seen, strict=True)) / 14
        for term in terms
    }
    for term in terms:
        assert logged[f"train/{term}"] == pytest.approx(mean[term], rel=1e-5)
        assert logged[f"train/{term}_weight"] == 1
    assert logged["train/total"] == pytest.approx(sum(mean.values()), rel=1e-5)


def test_its_trainer_trains_on_what_comes_back(tmp_path):
    library = peer("lightning.pytorch")
    model = make(library)
    fit(library, model, tmp_path, epochs=12)
    totals = [sum(row.values()) for row in model.seen]
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])


class Recorder:
    """What a LightningModule is to log_terms."""

    def log_dict(self, values, **settings):
        self.values, self.settings = values, settings


def test_it_logs_unweighted_terms_without_graph_and_passes_settings_on():
    x = torch.tensor(3.0, requires_grad=True)
    terms = mm.LossTerms({"a": x, "b": 2 * x}, {"b": 0.5})
    there = Recorder()
    total = log_terms(there, terms, batch_size=4, stage="val", prog_bar=True)
    assert total == 6
    assert total.requires_grad
    assert there.settings == {"batch_size": 4, "prog_bar": True}
    expected = {"val/a": 3, "val/a_weight": 1, "val/b": 6, "val/b_weight": 0.5, "val/total": 6}
    assert list(there.values) == ["val/a", "val/b", "val/a_weight", "val/b_weight", "val/total"]
    for name, value in expected.items():
        close(there.values[name], float(value))
        assert not there.values[name].requires_grad
    log_terms(there, terms, batch_size=4, weights=False)
    assert list(there.values) == ["train/a", "train/b", "train/total"]


@pytest.mark.parametrize(
    ("terms", "batch_size", "message"),
    [
        ({"a": torch.tensor(1.0)}, 2, "terms: expected LossTerms, got dict"),
        (mm.LossTerms({"a": torch.ones(3)}), 2, r"terms\['a'\]: expected a scalar, got \(3,\)"),
        (mm.LossTerms({"total": torch.tensor(1.0)}), 2, 'terms: expected no term called "total"'),
        (mm.LossTerms({"a": torch.tensor(1.0)}), 0, "batch_size: expected an int of at least 1"),
    ],
)
def test_errors(terms, batch_size, message):
    with pytest.raises(ValueError, match=message):
        log_terms(Recorder(), terms, batch_size=batch_size)
