"""README.md: its code runs, its commands parse, what it names exists, what is made is not stale."""

import contextlib
import copy
import inspect
import io
import json
import re
import shlex

import numpy as np
import pytest

import mmcontrast
from mmcontrast.testing import __main__ as laws
from reference_models import demo
from reference_models.__main__ import _parser
from reference_models.keys import configure
from reference_models.registry import MODELS
from reference_models.running.score_metrics import regression_metrics
from reference_models.tables.paired import CANNOT_TELL, HELPS, HURTS
from reference_models.tables.statistics import text_table, title
from tests import benchmarks
from tests.benchmarks.__main__ import arguments as bench_arguments
from tests.benchmarks.targets import of_a_run
from tests.readme import citing, deviations, drawing, idea, losses, page, papers, speed
from tests.readme.tables import maths

README = page.README.read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PROSE = page.outside_code(README)
COMMANDS = [
    line.removeprefix("$ ")
    for line in re.sub(r"\\\n", "", "".join(CONSOLE)).splitlines()
    if line.startswith("$ ")
] + re.findall(r"`(python -m [^`]+|make [a-z]+[^`]*)`", PROSE)


# --- code and commands ---------------------------------------------------------------------------


def test_there_is_python_to_run():
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "README.md", "exec"), {})


def test_every_block_is_of_a_kind_that_is_tested():
    kinds = re.findall(r"^```(\w*)\n.*?^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert set(kinds) == {"python", "console", "bibtex"}


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_commands_are_what_the_parsers_take(command):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (page.ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE)
        return
    assert words[:2] == ["python", "-m"]
    module, options = words[2], words[3:]
    if options == ["..."]:
        return
    if module == "reference_models":
        assert callable(_parser().parse_args(options).run)
    elif module == "mmcontrast.testing":
        laws._parser().parse_args(options)
    else:
        assert module == "tests.benchmarks"
        bench_arguments(options)


def test_the_commands_of_the_table_of_papers_name_what_there_is():
    calls = re.findall(r"`(reproduce [^`]+)`", papers.papers())
    assert len(calls) >= 5
    for call in calls:
        options = _parser().parse_args(shlex.split(call))
        assert options.table in MODELS[options.model].tables


def test_every_setting_that_is_named_exists():
    settings = re.findall(r"--set ([\w.-]+=[\w.-]+)", README)
    assert settings
    for setting in settings:
        assert any(takes(name, setting) for name in MODELS), setting


def takes(model, setting):
    try:
        configure(MODELS[model], [setting])
    except ValueError:
        return False
    return True


def test_what_make_demo_prints():
    """Its table has today's columns and rows, and its last words are today's."""
    printed = next(block for block in CONSOLE if "make demo" in block)
    assert demo.SYNTHETIC in printed
    scores = np.linspace(-2, 2, 9)
    head = text_table({"": regression_metrics(scores, -scores)}).splitlines()[0].split()
    lines = printed.splitlines()
    assert head in [line.split() for line in lines]
    for name in demo.MODELS:
        assert sum(line.startswith(f"{name}, seed ") for line in lines) == demo.SEEDS
    told = [line for line in lines if line.endswith((HELPS, HURTS, CANNOT_TELL))]
    assert [line.split(" of ")[0] for line in told] == [title(name) for name in demo.SHOWN]


def test_what_make_test_ends_with_is_a_green_summary():
    printed = next(block for block in CONSOLE if "make test" in block)
    assert re.fullmatch(r"=+ \d+ passed(, \d+ \w+)* in .+ =+", printed.splitlines()[-1])


# --- links and pictures --------------------------------------------------------------------------


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(links) > 20
    anchors = {page.anchor(text) for text in re.findall(r"^#+ (.+)$", PROSE, flags=re.MULTILINE)}
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (page.ROOT / link).exists(), link


@pytest.mark.parametrize("name", page.PICTURES)
def test_pictures_are_there_in_light_and_dark_and_not_stale(name):
    picture = page.PICTURES[name]
    assert not drawing.is_stale(picture.folder, name, picture.word())
    for file in drawing.files(picture.folder, name):
        assert str(file.relative_to(page.ROOT)) in README
        assert file.stat().st_size < 200_000


@pytest.mark.parametrize("name", page.PICTURES)
def test_pictures_can_be_drawn(name, tmp_path):
    drawing.draw(tmp_path, name, page.PICTURES[name].draw, "once")
    assert not drawing.is_stale(tmp_path, name, "once")
    assert drawing.is_stale(tmp_path, name, "another time")
    light, dark = (file.read_text() for file in drawing.files(tmp_path, name))
    assert drawing.LIGHT.blue in light
    assert drawing.DARK.blue in dark
    assert "<dc:date>" not in light


def test_the_picture_of_the_idea_shows_every_pair_of_the_batch():
    """Against the words under it, pair by pair."""
    _, attract, repel, same = idea.marks()
    rows = [(m, i) for m in idea.MODALITIES for i in range(idea.N)]
    for a, (m, i) in enumerate(rows):
        for b, (n, j) in enumerate(rows):
            here = all(idea.PRESENT.get(k, idea.LABELS >= 0)[s] for k, s in ((m, i), (n, j)))
            alike = idea.LABELS[i] == idea.LABELS[j]
            assert attract[a, b] == (here and alike and i != j)
            assert repel[a, b] == (here and not alike)
            assert same[a, b] == (here and i == j and m != n)


# --- generated parts -----------------------------------------------------------------------------


def test_every_part_is_on_the_page_once_and_not_stale():
    names = [match[1] for match in page.MARKED.findall(README)]
    assert sorted(names) == sorted([*page.PARTS, "contents"])
    assert page.render(README) == README, "run: make readme"


def test_rows_of_a_table_have_as_many_cells_as_its_head():
    tables = re.findall(r"(?:^\|.*\|\n)+", PROSE, flags=re.MULTILINE)
    assert len(tables) >= 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


def test_render_replaces_what_is_between_the_marks_alone():
    stale = README.replace("`info_nce`, `InfoNCE`", "`info_nce`, `Infonce`")
    assert stale != README
    assert page.render(stale) == README
    with pytest.raises(KeyError):
        page.render("<!-- begin: nobodys -->\n<!-- end -->")


def test_contents_leave_out_what_only_looks_like_a_heading():
    text = "# A\n\n## One: two, `three`\n\n```console\n## no\n```\n\n## Four\n\n### five\n"
    expected = "[One: two, `three`](#one-two-three) · [Four](#four)"
    assert page.contents(text) == expected


def test_every_loss_has_a_row_with_a_formula():
    """A loss is what reduces; its formula has no bar that would end a cell."""
    assert {"info_nce", "hybrid_contrast", "triplet", "kl_distill"} <= set(losses.LOSSES)
    for row in losses.losses().splitlines()[2:]:
        cells = row.split(" | ")
        assert len(cells) == 3
        assert re.fullmatch(r"\$`[^`|]+`\$", cells[1])
    assert losses.formula("anchored_info_nce") in inspect.getdoc(mmcontrast.anchored_info_nce)
    assert losses.formula("n_pair").startswith(r"\ell_i = \log\Big(1 + \sum_j")
    assert losses.formula("info_nce").count("\\exp") == 2


def test_a_formula_in_a_cell():
    assert maths(r"\|x\| + |P|" + "\n  y") == r"$`\Vert x\Vert + \vert P\vert y`$"


def test_the_table_of_functions_names_public_ones():
    table = README.split("## What there is")[1].split("\n\n")[1]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    names = set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert names
    assert names <= set(mmcontrast.__all__)
    assert set(losses.LOSSES) <= names


def test_a_paper_is_made_of_what_its_own_files_use():
    assert {"ratio_contrast", "hybrid_contrast"} <= set(papers.primitives("hycon"))
    assert papers.primitives("mfon") == ["anchored_info_nce", "kl_distill"]
    assert {"info_nce", "hard_negatives", "replacement_gate"} <= set(papers.primitives("tecafn"))
    assert papers.primitives("text-only") == []


@pytest.mark.parametrize("deviation", deviations.DEVIATIONS, ids=lambda d: f"{d.model}, {d.where}")
def test_what_is_printed_is_not_the_default_and_can_be_set(deviation):
    entry = MODELS[deviation.model]
    if deviation.setting is None:
        return
    changed, training = configure(entry, [deviation.setting])
    assert changed != entry.config
    assert training == entry.training


# --- the stored run of the benchmarks ------------------------------------------------------------


def test_storing_a_run_keeps_what_is_shown(tmp_path, monkeypatch):
    found = copy.deepcopy(speed.stored())
    found["machine"]["date"] = "today"
    found["results"][0] |= {"ms": 1.23456, "value": 7.0}
    found["compilations"] = [
        {"loss": "a", "case": "b", "n": 8, "d": 4, "s": 2.34567, "compilations": 2, "value": 7.0},
        {"loss": "a", "case": "c", "n": 8, "d": 4, "s": None, "compilations": None, "value": 7.0},
    ]
    (tmp_path / "bench.json").write_text(json.dumps(found))
    monkeypatch.setattr(speed, "STORED", tmp_path / "stored")
    monkeypatch.setattr(speed, "FILE", tmp_path / "stored" / "bench.json")
    speed.store(tmp_path / "bench.json")
    kept = speed.stored()
    assert set(kept["machine"]) == set(speed.ABOUT)
    assert kept["results"][0]["ms"] == 1.235
    assert set(kept["results"][0]) == set(speed.KEPT)
    assert kept["results"][1:] == found["results"][1:]
    assert [c["s"] for c in kept["compilations"]] == [2.346, None]
    assert all(set(c) == set(speed.KEPT_OF_COMPILATIONS) for c in kept["compilations"])


def test_the_stored_run_is_one_threads_and_has_what_the_picture_shows():
    found = speed.stored()
    assert found["machine"]["threads"] == 1
    assert speed.FILE.stat().st_size < 100_000
    for loss, d in speed.SHOWN.items():
        sizes = {r["n"] for r in found["results"] if (r["loss"], r["d"]) == (loss.name, d)}
        assert len(sizes) >= 3
    assert speed.FILE.is_relative_to(benchmarks.__path__[0])


def test_the_table_of_targets_shows_the_worst_of_each():
    judged = of_a_run(speed.stored())
    rows = [
        row.split(" | ")
        for row in speed.verdict_table().splitlines()
        if row.endswith("met |") or row.endswith("met** |")
    ]
    assert len(rows) == len({verdict.target for verdict in judged})
    missed = {verdict.target for verdict in judged if not verdict.met}
    assert sum("**not met**" in row[-1] for row in rows) == len(missed)


def test_the_table_of_compiled_losses_has_the_largest_size_of_all_four(monkeypatch):
    names = ("mmcontrast", "mmcontrast, compiled", "plain torch", "plain torch, compiled")
    results = [
        {"loss": "SupCon", "case": name, "n": n, "d": 64, "ms": 1.5 * n + k, "MB": 2.0}
        for n in (8, 16, 32)
        for k, name in enumerate(names[: 2 if n == 32 else 4])
    ]
    monkeypatch.setattr(speed, "stored", lambda: {"results": results})
    (row,) = [x for x in speed.compiled_table().splitlines() if x.startswith("| SupCon")]
    cells = [f"{24 + k} ms, 2 MB" for k in range(4)]
    assert row == f"| SupCon | 16, 64 | {' | '.join(cells)} |"
    monkeypatch.setattr(speed, "stored", lambda: {"results": results[-2:]})
    assert "no compiled losses" in speed.compiled_table()


# --- citing --------------------------------------------------------------------------------------


def test_bibtex_has_the_package_and_the_five_papers():
    (block,) = re.findall(r"^```bibtex\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    entries = re.split(r"^(?=@)", block, flags=re.MULTILINE)[1:]
    keys = [re.match(r"@\w+\{([\w]+),", entry)[1] for entry in entries]
    cited = sorted({model.citation for model in MODELS.values()} - {"none"})
    assert len(set(keys)) == len(keys) == 1 + len(cited), f"an entry each in Citing: {cited}"
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        for field in ("title", "author", "year"):
            assert re.search(rf"^  {field} +=", entry, flags=re.MULTILINE), (entry, field)
    assert f"version = {{{citing.version()}}}" in block
