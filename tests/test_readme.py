"""README.md: what it shows is what the commands print; and the makers of what is generated."""

import copy
import inspect
import json
import re
import shlex

import pytest

import mmcontrast
from reference_models import demo
from reference_models.__main__ import _parser
from reference_models.keys import configure
from reference_models.registry import MODELS
from reference_models.tables.paired import CANNOT_TELL, HELPS, HURTS
from reference_models.tables.statistics import title
from tests import benchmarks
from tests.benchmarks.targets import of_a_run
from tests.mutants import results
from tests.readme import citing, deviations, idea, libraries, losses, mutation, page, papers, speed

README = page.README.read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


# --- commands -----------------------------------------------------------------------------------


def test_the_commands_of_the_table_of_papers_name_what_there_is():
    calls = re.findall(r"`(reproduce [^`]+)`", papers.papers())
    assert len(calls) >= 5
    for call in calls:
        options = _parser().parse_args(shlex.split(call))
        assert options.table in MODELS[options.model].tables


def test_what_make_demo_prints():
    """Its last words are today's."""
    printed = next(block for block in CONSOLE if "make demo" in block)
    assert demo.SYNTHETIC in printed
    told = [line for line in printed.splitlines() if line.endswith((HELPS, HURTS, CANNOT_TELL))]
    ours, theirs = demo.MODELS
    begins = [f"{title(name)} of {ours} minus that of {theirs}: " for name in demo.SHOWN]
    assert all(line.startswith(begin) for line, begin in zip(told, begins, strict=True))


# --- the picture --------------------------------------------------------------------------------


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


def test_render_replaces_what_is_between_the_marks_alone():
    stale = README.replace("| TeCaFN |", "| TeCAFN |")
    assert stale != README
    assert page.render(stale) == README
    with pytest.raises(KeyError):
        page.render("<!-- begin: nobodys -->\n<!-- end -->")


def test_it_fits():
    assert len(README.splitlines()) <= 200


def test_every_loss_has_a_formula():
    """A loss is what reduces."""
    assert {"info_nce", "hybrid_contrast", "triplet", "kl_distill"} <= set(losses.LOSSES)
    assert all(losses.formula(name) for name in losses.LOSSES)
    assert losses.formula("anchored_info_nce") in inspect.getdoc(mmcontrast.anchored_info_nce)
    assert losses.formula("n_pair").startswith(r"\ell_i = \log\Big(1 + \sum_j")
    assert losses.formula("info_nce").count("\\exp") == 2


@pytest.mark.parametrize(
    ("path", "heading"),
    [("README.md", "## What there is"), ("notebooks/site/api/index.md", "## By what you want")],
)
def test_a_table_of_functions_names_public_ones(path, heading):
    table = (page.ROOT / path).read_text().split(heading)[1].split("\n\n")[1]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    names = set(re.findall(r"`(\w+)`", " ".join(cells))) - {"mmcontrast"}
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


def test_the_four_numbers_are_those_of_the_stored_run():
    rows = [row.split(" | ") for row in speed.four_numbers().splitlines()[2:]]
    assert len(rows) == 4
    for row in rows:
        ours, theirs = (float(cell.split("\u00a0")[0]) for cell in row[1:3])
        assert float(row[4].split()[0]) == pytest.approx(theirs / ours, rel=0.02)


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
    entries = re.split(r"^(?=@)", citing.bibtex().split("\n", 1)[1], flags=re.MULTILINE)[1:]
    keys = [re.match(r"@\w+\{([\w]+),", entry)[1] for entry in entries]
    cited = sorted({model.citation for model in MODELS.values()} - {"none"})
    assert len(set(keys)) == len(keys) == 1 + len(cited), f"an entry each in citations.bib: {cited}"
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        for field in ("title", "author", "year"):
            assert re.search(rf"^  {field} +=", entry, flags=re.MULTILINE), (entry, field)


def test_the_site_cites_the_package_of_this_version():
    software = citing.SOFTWARE.format(version=citing.version())
    assert software in (page.SITE / "citing.md").read_text()


# --- other libraries ------------------------------------------------------------------------------


def test_other_libraries_numbers_are_told_from_what_nobody_promised(monkeypatch, tmp_path):
    failed = {
        "empty_batch": "an empty batch gives nan",
        "low_precision_is_close": "torch.float16: 3.0 vs float64 7.9",
        "zero_row_is_finite": "with a row of zeros in torch.bfloat16, the loss is nan",
        **{f"law_{i}": "the loss is [1]" for i in range(5)},
    }
    shared = {"of": 9, "version": "1.0", "examples": 3, "date": "2026-01-01"}
    rows = {
        "one Loss": {"held": 1, "failed": failed, **shared},
        "one Other": {"held": 8, "failed": {"vectorizes": "raised"}, **shared},
        "two's formula": {"held": 9, "failed": {}, **shared, "version": None},
    }
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps(rows))
    monkeypatch.setattr(libraries, "STORED", stored)
    lines = libraries.libraries().splitlines()
    assert lines[0] == "Run on 2026-01-01, with 3 examples of each law."
    assert "| one | 1.0 | 2 | 9 of 18 | 1 of 2 |" in lines
    assert "| two | formula | 1 | 9 of 9 | 1 of 1 |" in lines
    assert (
        "| Loss | 1 of 9 | `zero_row_is_finite`: with a row of zeros in torch.bfloat16, the loss is"
        " nan; `law_0`; `law_1`; `law_2`; and 2 more | `empty_batch`; `low_precision_is_close` |"
    ) in lines
    assert "| Other | 8 of 9 | none | `vectorizes` |" in lines
    assert libraries.text("[a_b]") == "\\[a\\_b\\]"


def test_mutants_are_summed_by_part():
    row = dict.fromkeys(results.KINDS, 1)
    paths = ["reference_models/a.py", "mmcontrast/testing/a.py", "mmcontrast/a.py"]
    found = mutation.by_part(dict.fromkeys([*paths, "mmcontrast/exact/b.py"], row))
    assert {part: sums["killed"] for part, sums in found.items()} == {
        "mmcontrast/": 2,
        "mmcontrast/testing/": 1,
        "reference_models/": 1,
    }
