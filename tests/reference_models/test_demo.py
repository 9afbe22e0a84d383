"""The demo: its page, and that it trains nothing twice."""

import json

import pytest

from reference_models.__main__ import main


@pytest.mark.slow
def test_the_demo_writes_its_page_and_runs_again(tmp_path, capsys):
    arguments = ["demo", "--out", str(tmp_path), "--fast", "--seed", "3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith(("HyCon-v2  ", "without con"))]
    assert "HyCon-v2: training in" in out
    assert len(rows) >= 2
    assert "synthetic" in out
    page = (tmp_path / "index.html").read_bytes()
    text = page.decode()
    assert "they are not to be put beside published ones" in text
    assert "How to go on" in text
    assert "Differences from without contrast" in text
    assert text.count("<svg") == 10 + 5  # figures of both, and the intervals of five metrics
    assert "MAE of HyCon-v2 minus that of without contrast: " in out
    for seed in (3, 4, 5):
        assert (tmp_path / f"hycon-v2-seed{seed}-fast" / "metrics.json").is_file()
    configs = [
        json.loads((tmp_path / f"{name}-seed3-fast" / "config.json").read_text())
        for name in ("hycon-v2", "without-contrast")
    ]
    weights = ("intra_weight", "inter_weight", "semi_weight")
    differing = {
        key
        for key, value in configs[0]["model_config"].items()
        if configs[1]["model_config"][key] != value
    }
    assert differing == set(weights)
    assert all(configs[1]["model_config"][name] == 0 for name in weights)

    assert main(arguments) == 0  # what is there is taken, and nothing is trained
    out, err = capsys.readouterr()
    assert "trained before" in out
    assert "epoch" not in err
    assert (tmp_path / "index.html").read_bytes() == page
