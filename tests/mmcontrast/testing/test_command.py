"""``python -m mmcontrast.testing``: exit status and output."""

import json
import re

import pytest

from mmcontrast.testing import CHECKS
from mmcontrast.testing.__main__ import load, main
from mmcontrast.testing.broken import MISTAKES
from tests.forks import Forks

HALF = "tests.mmcontrast.testing.losses:half"
SCALED = "tests.mmcontrast.testing.losses:scaled"
FEW = ["--examples", "1", "--exclude", "gradcheck", "gradgradcheck"]


def run(capsys, *arguments):
    status = main(arguments)
    return status, capsys.readouterr().out


def test_a_loss_that_is_right(capsys):
    laws = ["--checks", "symmetric", "nonnegative"]
    name = "mmcontrast:SymmetricInfoNCE"
    status, text = run(capsys, name, "--symmetric", "--examples", "2", *laws)
    assert status == 0
    assert text == f"{name} (paired): 2 of 2 laws hold\npassed: nonnegative, symmetric\n"


def test_as_a_process_a_loss_that_is_wrong():
    """All that it says is the report."""
    forks = Forks()
    law = ["--checks", "collapse_value"]
    forks.start("mmcontrast.testing", HALF, "--form", "info_nce", "--json", *law)
    status, said = forks.wait(300)[0].split("\n", 1)
    assert status == "exit 1"
    assert json.loads(said)["ok"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a loss is missing"),
        (["mmcontrast"], "expected package.module:name"),
        (["no_such_package:loss"], "No module named"),
        (["mmcontrast:no_such_loss"], "no_such_loss"),
        (["mmcontrast:IGNORE"], "expected something to call"),
        (["mmcontrast:InfoNCE", "--set", "temperature"], "expected NAME=VALUE"),
        (["mmcontrast:InfoNCE", "--set", "warmth=1"], "warmth"),
        (["mmcontrast:info_nce", "--checks", "no_such_law"], "there is no law 'no_such_law'"),
        (["mmcontrast:info_nce", "--exclude", "symetric"], "did you mean symmetric?"),
        (["mmcontrast:info_nce", "--expect", "symetric=x"], "did you mean symmetric?"),
        (["mmcontrast:info_nce", "--form", "infonce"], "'infonce'; did you mean info_nce?"),
        (["mmcontrast:info_nce", "--symetric"], "--symetric; did you mean --symmetric?"),
        (["mmcontrast:infonse"], "'mmcontrast' has no 'infonse'; did you mean infonce?"),
        (["my/losses.py:loss"], "a file is named as a module: my.losses:loss"),
        (["losses.py"], "a file is named as a module: losses:NAME"),
        (["cli_syntax:loss"], "importing 'cli_syntax', line 1 of "),
        (["cli_raises:loss"], "importing 'cli_raises', it raised RuntimeError: no GPU here"),
        (["cli_exits:loss"], "importing 'cli_exits', it raised SystemExit: 3"),
        (["cli_needs:Width"], "making 'cli_needs:Width', it raised TypeError: "),
        (["mmcontrast:info_nce", "--reference", "nowhere:x"], "No module named 'nowhere'"),
        (
            ["mmcontrast:semi_contrast", "--kind", "multimodal", "--pairwise", "nowhere:x"],
            "No module named 'nowhere'",
        ),
        (["mmcontrast:info_nce", "--pairwise", "mmcontrast:n_pair"], "pairwise: expected None"),
        (["mmcontrast:info_nce", "--temperature", "-1"], "temperature: expected a number above 0"),
        (["mmcontrast:info_nce", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["mmcontrast:info_nce", "--form", "sup_con"], "form: expected"),
        (["mmcontrast:info_nce", "--expect", "nonnegative= "], "a reason"),
        (["mmcontrast:info_nce", "--kind", "other"], "argument --kind: expected one of paired"),
        (["mmcontrast:info_nce", "--dtypes", "int64"], "dtypes: expected a floating dtype"),
    ],
)
def test_wrong_calls_exit_with_2_and_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    (tmp_path / "cli_syntax.py").write_text("def loss(:")
    (tmp_path / "cli_raises.py").write_text("raise RuntimeError('no GPU\\nhere')")
    (tmp_path / "cli_exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "cli_needs.py").write_text(
        "import torch\nclass Width(torch.nn.Module):\n    def __init__(self, width): pass"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("python -m mmcontrast.testing: ")
    assert said.count("\n") == 1


def test_a_loss_that_raises_is_one_block(capsys):
    status, text = run(capsys, "tests.mmcontrast.testing.losses:raises")
    assert status == 1
    assert text.count("raised IndexError: nobody is here") == 2  # in the block, and in its example


def test_the_nearest_form_is_proposed(capsys):
    name = "tests.mmcontrast.testing.plausible:margin_after_the_temperature"
    status, text = run(capsys, name, "--infer", *FEW)
    assert status == 0
    lines = text.splitlines()
    assert "no law was run on the denominator, temperature or masks" in lines[0]
    assert lines[1] == "nearest known form: form='info_nce', temperature=0.1"
    assert "lowered by 0.2" in text
    assert run(capsys, name, "--form", "info_nce", "--temperature", "0.1", *FEW)[0] == 1


def test_traits_are_flags(capsys):
    status, text = run(
        capsys,
        "mmcontrast:n_pair",
        "--no-normalized",
        "--rectangular",
        "--form",
        "info_nce",
        "--temperature",
        "1",
        "--empty",
        "zero",
        *FEW,
    )
    assert status == 0
    assert "ranks_agree" in text.partition("not claimed")[0]
    assert "row_scale_invariant" in text.partition("not claimed")[2]


def test_ways_to_make_the_loss(capsys):
    status, text = run(
        capsys,
        "mmcontrast:info_nce",
        "--by-temperature",
        "temperature",
        "--by-reduction",
        "reduction",
        "--by-chunk",
        "chunk_size",
        "--reference",
        "mmcontrast:info_nce",
        "--collapse-log-n",
        *FEW,
    )
    assert status == 0
    held = text.partition("not claimed")[0]
    for law in (
        "chunks_are_exact",
        "mean_of_each_is_the_mean",
        "precise_at_any_temperature",
        "equals_the_reference",
        "collapse_value",
    ):
        assert law in held


def test_the_example_runs_as_pasted_and_names_the_factory(capsys):
    status, text = run(
        capsys,
        SCALED,
        "--set",
        "factor=2.0",
        "--form",
        "info_nce",
        "--by-temperature",
        "temperature",
        "--json",
        "--checks",
        "high_temperature_limit",
    )
    assert status == 1
    code = json.loads(text)["checks"][0]["code"]
    assert "Vary(scaled, 'temperature', {'factor': 2.0})" in code.replace("loss=", "").replace(
        "argument=", ""
    ).replace("settings=", "")
    with pytest.raises(AssertionError, match=re.escape("at temperature 1e9 the loss is 1.386")):
        exec(compile(code, "pasted", "exec"), {})


def test_expected_failures(capsys):
    reason = "collapse_value=half of it is meant"
    chosen = ["--form", "info_nce", "--checks", "collapse_value", "--examples", "3"]
    assert run(capsys, HALF, *chosen)[0] == 1
    status, text = run(capsys, HALF, "--expect", reason, *chosen)
    assert status == 0
    assert "half of it is meant" in text
    status, text = run(capsys, "mmcontrast:info_nce", "--expect", reason, *chosen)
    assert status == 1
    assert "UNEXPECTED PASS" in text


def test_html(capsys):
    status, text = run(capsys, HALF, "--html", "--form", "info_nce", *FEW)
    assert status == 1
    assert text.startswith("<!DOCTYPE html>")
    assert "<svg" in text


def test_markdown(capsys):
    status, text = run(capsys, HALF, "--markdown", "--form", "info_nce", *FEW)
    assert status == 1
    assert text.startswith(f"## {HALF} (paired): ")
    assert "```python" in text


def test_the_list_of_laws(capsys):
    status, text = run(capsys, "--list")
    assert status == 0
    assert [line.split(" (law")[0].split(":")[0] for line in text.splitlines()] == list(CHECKS)
    status, text = run(capsys, "--list", "--kind", "triplet")
    assert "triplets_do_not_meet" in text
    assert "relabelling_invariant" not in text


def test_a_loss_that_needs_two_samples(capsys):
    text = run(capsys, "mmcontrast:InfoNCE", "--smallest", "2", *FEW)[1]
    claims = text.partition("not claimed")[2]
    assert "single_sample (smallest=1)" in " ".join(claims.split())


def test_the_table_of_broken_losses(capsys):
    status, text = run(capsys, "--broken")
    assert status == 0
    assert text.count("\n") == 2 + len(MISTAKES)


def test_other_kinds(capsys):
    assert (
        run(capsys, "mmcontrast:sup_con", "--kind", "labelled", "--ignore-index", "-100", *FEW)[0]
        == 0
    )
    assert (
        run(
            capsys,
            "mmcontrast:triplet",
            "--kind",
            "triplet",
            "--no-normalized",
            "--translation-invariant",
            "--by-temperature",
            "margin",
            *FEW,
        )[0]
        == 0
    )
    assert (
        run(capsys, "mmcontrast:anchored_info_nce", "--kind", "multimodal", "--present", *FEW)[0]
        == 0
    )


def test_miners_and_distances(capsys):
    miner = ["mmcontrast:hard_negatives", "--set", "k=2", "--kind", "miner", "--examples", "2"]
    status, text = run(capsys, *miner, "--by-temperature", "k", "--hardest", "negatives")
    assert status == 0
    assert text.startswith("mmcontrast:hard_negatives (miner): ")
    assert "many_are_all" in text.partition("not claimed")[0]
    assert run(capsys, *miner, "--distance", "mmcontrast:euclidean", "--no-normalized")[0] == 1
    assert run(capsys, *miner, "--hardest")[0] == 0  # neither side
    distance = ["mmcontrast:squared_euclidean", "--kind", "distance", "--examples", "20"]
    status, text = run(capsys, *distance)
    assert status == 1
    assert "triangle_inequality" in text
    distance[-1] = "1"
    assert run(capsys, *distance, "--no-metric", "--degree", "2")[0] == 0
    assert "a distance has none" in run(capsys, *distance, "--no-metric", "--infer")[1]


def test_settings_are_python_literals_or_text():
    module = load("mmcontrast:InfoNCE", ["temperature=0.5", "reduction=sum"])
    assert (module.temperature, module.reduction) == (0.5, "sum")
    assert load("mmcontrast:info_nce").__name__ == "info_nce"
    assert load("mmcontrast:info_nce", ["temperature=0.5"]).keywords == {"temperature": 0.5}
