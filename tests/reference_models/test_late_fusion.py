"""A sixth paper, out of a folder of its own: one line registers it, and all commands take it."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch

from reference_models import registry
from reference_models.__main__ import main
from reference_models.data.synthetic import synthesize
from tests.processes import ROOT
from tests.reference_models.batches import SIZES, batch_of, lacking
from tests.reference_models.late_fusion import PAPERS
from tests.reference_models.late_fusion.settings import LateFusionConfig

FOLDER = ROOT / "tests" / "reference_models" / "late_fusion"
SHORT = ("epochs=1", "batch_size=16", "max_text_length=12")


@pytest.fixture
def registered(monkeypatch):
    """With one more folder in the registry."""
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    registry.register("tests.reference_models.late_fusion")
    return registry.find("late-fusion")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("data") / "corpus.pkl", sizes=(32, 10, 12))


def network(**settings):
    torch.manual_seed(5)
    sizes = {name: SIZES[name] for name in ("text", "audio")}
    return PAPERS[0].build(LateFusionConfig(**settings), sizes)


def test_a_folder_adds_its_models_once(registered):
    assert registered is PAPERS[0]
    with pytest.raises(ValueError, match="late_fusion: expected a new name, got 'late-fusion'"):
        registry.register("tests.reference_models.late_fusion")


def test_a_step_lowers_its_loss():
    model, batch = network().train(), batch_of(8, ("text", "audio"))
    before = model(batch).terms
    assert list(before) == ["task", "contrast"]
    before.total.backward()
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    assert model(batch).terms.total < before.total


def test_the_contrast_is_over_samples_that_have_both():
    model, batch = network().train(), lacking(batch_of(8, ("text", "audio")), audio=[1, 5])
    expected = model(batch).terms["contrast"]
    rest = [row for row in range(8) if row not in (1, 5)]
    x, y = (
        model.layers[m](batch.features[m].sum(1) / batch.masks[m].sum(1, keepdim=True)).relu()
        for m in ("text", "audio")
    )
    similarity = torch.nn.functional.cosine_similarity(x[rest, None], y[None, rest], dim=2)
    shares = (similarity / 0.07).log_softmax(1).diagonal()
    torch.testing.assert_close(expected, -shares.mean())


def test_evaluation_has_the_task_alone():
    model, batch = network().eval(), batch_of(4, ("text", "audio"))
    assert list(model(batch).terms) == ["task"]
    assert model(replace(batch, labels=None)).terms is None


def test_it_is_listed_and_trained(registered, file, tmp_path, capsys):
    assert main(["list"]) == 0
    assert re.search(r"(?m)^late-fusion +two predictions, averaged", capsys.readouterr().out)
    assert main(["list", "late-fusion"]) == 0
    assert "  hidden_size=16\n      features of each modality" in capsys.readouterr().out
    run = tmp_path / "run"
    call = ["train", "late-fusion", "--data", str(file), "--out", str(run), "--set", *SHORT]
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert "vision is not read by late-fusion" in out
    assert re.search(r"epoch +1/1 .*\(task [\d.]+ contrast [\d.]+\)", err)
    assert main(["evaluate", str(run)]) == 0


def test_a_key_that_nothing_explains_is_listed_alone(registered, monkeypatch, capsys):
    monkeypatch.setattr(LateFusionConfig, "__doc__", "No word about the fields.")
    assert main(["list", "late-fusion"]) == 0
    assert "  hidden_size=16\n  contrast_weight=0.1\n" in capsys.readouterr().out


@pytest.mark.usefixtures("blank_figures")
def test_its_table_is_reproduced_without_published_numbers(registered, file, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["reproduce", "late-fusion", "--table", "contrast", "--data", str(file), "--seeds", "1"]
    assert main([*call, "--out", str(out), "--set", *SHORT]) == 0
    content = json.loads((out / "table.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["full", "wo_contrast"]
    assert all(row["measured"]["mae"]["mean"] > 0 for row in content["rows"])
    assert all(row["published"] == {} for row in content["rows"])
    assert {line["paper"] for line in content["differences"]} == {"not stored here"}
    here = {line["topic"]: line["here"] for line in content["differences"]}
    assert here["modalities"] == "text, audio"
    assert here["features"] == "text 128 of the text encoder, audio 16 in up to 20 steps"
    assert "measured, n=1" in capsys.readouterr().out


@pytest.mark.usefixtures("blank_figures")
def test_a_paper_without_tables_has_its_settings_as_the_one_row(registered, file, tmp_path):
    registry.MODELS["late-fusion"] = replace(registered, tables={})
    out = tmp_path / "out"
    call = ["reproduce", "late-fusion", "--table", "headline", "--data", str(file), "--seeds", "1"]
    assert main([*call, "--out", str(out), "--set", *SHORT]) == 0
    assert (out / "late-fusion" / "seed-1111" / "metrics.json").is_file()


def test_the_sites_page_is_this_folder():
    chapter = (ROOT / "notebooks" / "site" / "papers" / "add_a_paper.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", chapter, flags=re.MULTILINE | re.DOTALL)
    names = ("settings.py", "network.py", "__init__.py")
    assert blocks == [(FOLDER / name).read_text() for name in names]
    assert all(name in chapter for name in names)


def test_the_pages_program_takes_a_folder_from_outside(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "late_fusion"
    folder.mkdir()
    for name in ("settings.py", "network.py", "__init__.py"):
        text = (FOLDER / name).read_text()
        text = text.replace("tests.reference_models.late_fusion", "late_fusion")
        (folder / name).write_text(text)
    chapter = (ROOT / "notebooks" / "site" / "papers" / "add_a_paper.md").read_text()
    program = re.findall(r"^```py\n(.*?)^```", chapter, flags=re.MULTILINE | re.DOTALL)[0]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    monkeypatch.setattr(sys, "argv", ["run.py", "list", "late-fusion"])
    with pytest.raises(SystemExit, match="0"):
        exec(compile(program, "run.py", "exec"), {})
    assert registry.find("late-fusion").build.__module__ == "late_fusion.network"
    assert capsys.readouterr().out.startswith("late-fusion: two predictions, averaged")
