"""README.md and the site: code runs, links lead somewhere, names have entries, nothing is stale.

Sphinx is not needed here: the pages are read as they are written.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import re
import shlex
from pathlib import Path

import pytest

import mmcontrast
from mmcontrast import testing
from mmcontrast.testing import __main__ as laws
from reference_models.__main__ import _parser
from reference_models.keys import configure
from reference_models.registry import MODELS
from tests.benchmarks.__main__ import arguments as bench_arguments
from tests.mutants.__main__ import arguments as mutant_arguments
from tests.readme import drawing, families, losses, page, paper_pages
from tests.readme.gallery import notebooks

NAMES = [str(path.relative_to(page.ROOT)) for path in page.PAGES]
TEXTS = {name: (page.ROOT / name).read_text() for name in NAMES}
SITE = {name: text for name, text in TEXTS.items() if name != "README.md"}
FENCE = re.compile(r"^```([\w{}:.-]*)[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
KINDS = {"python", "pycon", "console", "bibtex", "math", "{toctree}", "{eval-rst}"}
KINDS |= {"py"}  # the program of "Add a paper", which test_late_fusion.py runs beside its folder
ADAPTERS = ("hf", "lightning", "open_clip", "pml", "sentence_transformers")


def fenced(kind):
    return [(n, body) for n, text in TEXTS.items() for k, body in FENCE.findall(text) if k == kind]


def prose(name):
    return page.outside_code(TEXTS[name])


# --- code and commands ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [pytest.param(body, id=name) for name, body in fenced("python")])
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "page", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_of_a_kind_that_is_tested(name):
    assert TEXTS[name].count("```") == 2 * len(FENCE.findall(TEXTS[name]))
    assert {kind for kind, _ in FENCE.findall(TEXTS[name])} <= KINDS


def commands():
    found = set()
    for _, body in fenced("console"):
        lines = re.sub(r"\\\n", "", body).splitlines()
        found |= {line.removeprefix("$ ") for line in lines if line.startswith("$ ")}
    for name in NAMES:
        found |= set(re.findall(r"`(python -m [^`]+|make [a-z]+[^`]*)`", prose(name)))
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_commands_are_what_the_parsers_take(command):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (page.ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE)
        return
    if words[0] in ("pip", "torchrun", "pytest"):
        return
    if words[:2] == ["python", "run.py"]:  # the program of "Add a paper": the same commands
        words[1:2] = ["-m", "reference_models"]
    assert words[:2] == ["python", "-m"]
    module, options = words[2], words[3:]
    if options == ["..."]:
        return
    if module == "reference_models":
        options = ["hycon" if x == "MODEL" else x for x in options]
        if len(options) == 1 and options != ["list"]:  # named in a sentence
            with pytest.raises(SystemExit, match=r"^0$"):
                _parser().parse_args([*options, "--help"])
        elif options:
            assert callable(_parser().parse_args(options).run)
    elif module == "mmcontrast.testing":
        laws._parser().parse_args(options)
    elif module == "tests.benchmarks":
        bench_arguments(options)
    elif module == "tests.mutants":
        mutant_arguments(options)
    else:
        assert module in ("tests.readme", "tests.notebooks")


def test_every_setting_that_is_named_exists():
    settings = {x for text in TEXTS.values() for x in re.findall(r"--set ([\w.-]+=[\w.-]+)", text)}
    assert settings
    for setting in settings:
        assert any(takes(name, setting) for name in MODELS), setting


def takes(model, setting):
    try:
        configure(MODELS[model], [setting])
    except ValueError:
        return False
    return True


# --- links ---------------------------------------------------------------------------------------


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", page.outside_code(text), flags=re.MULTILINE)
    return {page.anchor(heading) for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(name))
    links += re.findall(r'(?:src|srcset)="([^"]+)"', TEXTS[name])
    for link in links:
        path, _, fragment = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (page.ROOT / name).parent / path if path else page.ROOT / name
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target.read_text()), link


def listed():
    """Every page that a toctree lists, as often as it does."""
    for name, text in SITE.items():
        folder = (page.ROOT / name).parent
        for kind, body in FENCE.findall(text):
            lines = body.splitlines() if kind == "{toctree}" else []
            for line in lines:
                if line and not line.startswith(":") and "*" not in line:
                    yield str((folder / f"{line.strip()}.md").relative_to(page.ROOT))


def test_every_page_is_in_one_table_of_contents():
    assert sorted([*listed(), "notebooks/site/index.md"]) == sorted(SITE)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_table_have_as_many_cells_as_its_head(name):
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(name), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


# --- generated parts and pictures ----------------------------------------------------------------


def test_every_part_is_on_some_page_and_not_stale():
    names = {match[1] for text in TEXTS.values() for match in page.MARKED.findall(text)}
    assert names == set(page.PARTS)
    for name, text in TEXTS.items():
        assert page.render(text) == text, f"{name}; run: make readme"


@pytest.mark.parametrize("name", page.PICTURES)
def test_pictures_are_there_in_light_and_dark_and_not_stale(name):
    picture = page.PICTURES[name]
    assert not drawing.is_stale(picture.folder, name, picture.word())
    light, dark = drawing.files(picture.folder, name)
    assert any(light.name in text for text in TEXTS.values())
    for file in (light, dark):
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


# --- the API -------------------------------------------------------------------------------------


def entries():
    """The names with an entry of their own on the API's pages, as often as they have one."""
    found = []
    for name, text in SITE.items():
        if name.startswith("notebooks/site/api/"):
            module = ""
            for line in text.splitlines():
                if line.startswith(".. py:currentmodule:: "):
                    module = line.split()[-1]
                elif entry := re.match(r"\.\. (?:auto\w+|py:data):: ([\w.]+)", line):
                    found.append(f"{module}.{entry[1].removeprefix(f'{module}.')}")
    return found


def test_every_public_name_has_one_entry():
    expected = [f"mmcontrast.{name}" for name in mmcontrast.__all__]
    expected += [f"mmcontrast.testing.{name}" for name in testing.__all__]
    for adapter in ADAPTERS:
        module = importlib.import_module(f"mmcontrast.interop.{adapter}")
        own = [
            n for n, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__
        ]
        names = getattr(module, "__all__", None) or [n for n in own if not n.startswith("_")]
        expected += [f"mmcontrast.interop.{adapter}.{n}" for n in names if n[0].isalpha()]
    more = {"mmcontrast.loading.restore_dimensions"}  # a docstring sends its readers there
    assert sorted(x for x in entries() if x.removeprefix("mmcontrast.") not in more) == sorted(
        [*expected, *more]
    )


@pytest.mark.parametrize("name", mmcontrast.__all__)
def test_the_fields_of_a_record_are_explained(name):
    record = getattr(mmcontrast, name)
    fields = getattr(record, "_fields", None)
    if fields is None and inspect.isclass(record) and dataclasses.is_dataclass(record):
        fields = [field.name for field in dataclasses.fields(record)]
    for field in fields or ():
        assert re.search(rf"^ +(\w+, )*{field}(, \w+)*: ", record.__doc__, flags=re.MULTILINE), (
            field
        )


# --- the pages of losses, papers and notebooks ---------------------------------------------------


def test_every_loss_has_its_page():
    assert sorted(x for names in families.FAMILIES.values() for x in names) == sorted(losses.LOSSES)
    for family in families.FAMILIES:
        text = TEXTS[f"notebooks/site/losses/{family}.md"]
        for part in ("formulas", "equal", "sources"):
            assert f"<!-- begin: {part}-{family} -->" in text
        for heading in ("## Use", "## What it costs", "## Pitfalls"):
            assert f"{heading}\n" in text


def test_a_loss_of_no_library_says_so():
    assert families.equal("ranked").startswith("No library")
    assert "`ClipLoss()(unit(x), unit(y), 1 / t)`" in families.equal("infonce")


def test_costs_have_a_cell_for_each_size():
    head, _, *rows = families.costs("hybrid").split("\n\n")[1].splitlines()
    assert head == "| HyCon, 50 features | N = 128 | N = 1024 | N = 8192 |"
    assert all(row.count("|") == head.count("|") for row in rows)
    assert any("too large" in row for row in rows)
    assert rows[0].startswith("| mmcontrast | ")


@pytest.mark.parametrize("model", paper_pages.PAPERS)
def test_a_papers_page_has_its_parts(model):
    text = TEXTS[f"notebooks/site/papers/{model}.md"]
    for part in ("made-of", "setting", "published", "deviations", "measured"):
        assert f"<!-- begin: {part}-{model} -->" in text
    assert paper_pages.made_of(model)
    assert "| mae |" in paper_pages.published(model) or " mae " in paper_pages.published(model)


def test_papers_are_the_models_with_printed_numbers():
    printed = {m.published for m in MODELS.values() if m.published}
    assert {MODELS[name].published for name in paper_pages.PAPERS} == printed


def test_every_notebook_is_in_the_gallery_with_its_first_sentence():
    rows = notebooks().splitlines()
    assert len(rows) == len(list(Path(page.ROOT / "notebooks").glob("*.ipynb")))
    assert rows[0].startswith(
        "* [Drop a loss into your model](../01_drop_in_losses.ipynb): Two towers"
    )
    assert all(row.endswith((".", "?")) for row in rows)
