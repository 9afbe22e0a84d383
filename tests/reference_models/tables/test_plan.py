"""What is to be run: rows that are equal, that cannot run, and what a row changes."""

import json

import pytest

from reference_models.running import runs
from reference_models.running.trainer import NotFinite
from reference_models.tables import plan
from tests.reference_models.tables.reproduced import (
    corpus_file,
    markdown_rows,
    read_rows,
    run,
    set_entry,
)


def test_equal_rows_are_tried_once(file, tmp_path, monkeypatch):
    tried = []

    def train(parts, corpus, folder, **options):
        tried.append(folder)
        raise NotFinite("it diverges")

    monkeypatch.setattr(runs, "train", train)
    set_entry(monkeypatch, tables={"t": {"full": {}, "again": {"margin": 0.8}, "other": {}}})
    with pytest.raises(ValueError, match="expected a run that trains to its end, got none"):
        run(file, tmp_path, table="t", rows=None, seeds=[1])
    assert tried == [tmp_path / "full" / "seed-1"]
    remarks = {row["name"]: row["remark"] for row in read_rows(tmp_path)}
    assert remarks["again"] == remarks["other"] == "is the same run as full"
    assert remarks["full"] == "seed 1 failed: it diverges"


@pytest.mark.usefixtures("blank_figures")
def test_a_row_that_cannot_run_is_in_the_table_with_its_reason(tmp_path, monkeypatch):
    file = corpus_file(tmp_path / "two.pkl", drop=("vision", "vision_lengths"))
    rows = {"full": {}, "wo_V": {"modalities": ("text", "audio")}}
    rows |= {"wo_A": {"modalities": ("text", "vision")}, "T/x": {"margin": 0.5}}
    set_entry(monkeypatch, tables={"ablation": rows})
    out = tmp_path / "out"
    run(file, out, table="ablation", rows=None, seeds=[1])
    content = json.loads((out / "table.json").read_text())
    remarks = {row["name"]: row["remark"] for row in content["rows"]}
    assert remarks["wo_A"].startswith("cannot run here: modalities: expected some of text, audio")
    assert remarks["wo_A"].endswith("got 'vision' from the row wo_A")
    # Without vision in the file, the row without vision is the full one: it runs once.
    assert remarks["wo_V"] == "is the same run as full"
    assert remarks["full"] == remarks["T/x"] == ""
    assert content["folders"] == {"full": "full", "wo_V": "full", "T/x": "T-x"}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["T-x", "full"]
    shown = {line["Row"]: line for line in markdown_rows(out)}
    assert shown["wo_A"][""] == "not measured"
    assert shown["wo_V"]["MAE"] == shown["full"]["MAE"] != ""
    text = (out / "table.md").read_text(encoding="utf-8")
    assert "* wo_A: cannot run here" in text
    assert "(not in the file: vision)" in text


def test_too_few_modalities_are_of_the_row_or_of_the_command(file, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda *arguments, **options: None)
    set_entry(monkeypatch, tables={"ablation": {"full": {}, "T": {"modalities": ("text",)}}})
    run(file, tmp_path / "a", table="ablation", rows=None, seeds=[1])
    remarks = {row["name"]: row["remark"] for row in read_rows(tmp_path / "a")}
    assert remarks["T"].endswith("for hycon, got text (the row T asks for no more)")
    with pytest.raises(ValueError, match=r"got audio \(--modalities asks for no more\)$"):
        run(file, tmp_path / "b", table="ablation", rows=["full"], modalities=["audio"])


def test_rows_without_text_get_no_text_encoder(file, tmp_path, monkeypatch, no_training):
    seen = []

    def build(*arguments, **options):
        seen.append((options["text_encoder"], options["modalities"]))
        raise ValueError("enough")

    monkeypatch.setattr(plan, "build", build)
    rows = {"full": {}, "av": {"modalities": ("audio", "vision")}}
    set_entry(monkeypatch, tables={"ablation": rows})
    with pytest.raises(ValueError, match="enough"):
        run(file, tmp_path, table="ablation", rows=None, text_encoder="scratch")
    assert seen == [("scratch", None), (None, ("audio", "vision"))]


def test_settings_come_after_the_preset_and_a_row_after_both(tmp_path, monkeypatch, as_mosi):
    file = corpus_file(tmp_path / "real.pkl", real=True)
    presets = {"mosi": {"margin": 0.6, "epochs": 7, "refine": False}, "other": {"margin": 0.1}}
    set_entry(monkeypatch, presets=presets, tables={"t": {"full": {}, "row": {"epochs": 3}}})
    configs = {}

    def train(parts, corpus, folder, **options):
        config = parts.config
        values = config["model_config"]["margin"], config["model_config"]["refine"]
        configs[folder.parent.name] = (*values, config["training"]["epochs"])

    monkeypatch.setattr(runs, "train", train)
    settings = ["layers=1", "hidden_size=10", "heads=2", "margin=0.7", "selection=test_loss"]
    run(file, tmp_path / "a", table="t", rows=None, seeds=[1], settings=settings)
    assert configs == {"full": (0.7, False, 7), "row": (0.7, False, 3)}
    text = (tmp_path / "a" / "table.md").read_text(encoding="utf-8")
    assert "margin=0.7 (instead of 0.6)" in text
    assert "the epoch with the lowest test loss" in text
    assert "flatters" in text
    run(file, tmp_path / "b", table="t", rows=["full"], seeds=[1], settings=[], preset="other")
    assert configs["full"][0] == 0.1
    run(file, tmp_path / "c", table="t", rows=["full"], seeds=[1], settings=[], preset="none")
    assert configs["full"][0] == 0.8
