"""The notebooks run from start to end; what they store is of their own code, and small."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from PIL import Image

from tests import notebooks
from tests.forks import Forks

STORED = [pytest.param(path, id=path.stem) for path in notebooks.NOTEBOOKS]
KILOBYTES = 150
MACHINE = re.compile(
    r"(?:^|[\s\"'(=:])(?:/(?:tmp|home|root|usr|opt|work|mnt|var|Users|private)/|~/|[A-Z]:\\)"
    r"|site-packages[/\\]|ipykernel_\d"
)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def words(output):
    """All that an output says, without its pictures."""
    said = [output.get("text", ""), *output.get("traceback", [])]
    return said + [text for kind, text in output.get("data", {}).items() if kind != "image/png"]


def test_the_notebooks_are_these():
    assert [path.stem for path in notebooks.NOTEBOOKS] == [
        "01_drop_in_losses",
        "02_three_modalities",
        "03_hard_negatives",
        "04_test_your_loss",
        "05_big_batches",
        "06_reproduce_a_paper",
        "07_three_at_once",
        "08_retrieval",
    ]


@pytest.mark.parametrize("path", STORED)
def test_every_cell_has_been_run_in_order(path):
    notebook, cells = read(path)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("path", STORED)
def test_outputs_are_of_the_code_that_stands_there(path):
    notebook, _ = read(path)
    assert notebook.metadata["sources"] == notebooks.sources(notebook), "run make notebooks"


@pytest.mark.parametrize("path", STORED)
def test_nothing_went_wrong_and_nothing_was_warned_of(path):
    _, cells = read(path)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("path", STORED)
def test_no_path_of_a_machine_is_in_it(path):
    notebook, cells = read(path)
    texts = [cell.source for cell in notebook.cells]
    texts += [text for cell in cells for output in cell.outputs for text in words(output)]
    assert not [found.group() for text in texts for found in MACHINE.finditer(text)]


@pytest.mark.parametrize("path", STORED)
def test_it_has_pictures_and_is_small(path):
    _, cells = read(path)
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert any("image/png" in kinds for kinds in data)
    assert path.stat().st_size < KILOBYTES * 1024


@pytest.mark.parametrize("path", STORED)
def test_it_begins_with_a_title_and_its_links_lead_somewhere(path):
    notebook, _ = read(path)
    assert re.match(r"# [A-Z].+\n", notebook.cells[0].source)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for name in re.findall(r"\]\(([^)]+)\)", cell.source):
                assert (path.parent / name).is_file(), name


@pytest.mark.parametrize("path", STORED)
def test_it_says_what_it_takes_and_what_to_read_next(path):
    notebook, _ = read(path)
    told = re.search(r"\*\*Runtime:\*\* about .+\. \*\*Needs:\*\* .+", notebook.cells[0].source)
    assert told, "how long it runs, and what it needs"
    _, heading, after = notebook.cells[-1].source.partition("## What to read next\n")
    assert heading
    assert len(re.findall(r"^\* \[.+\]\(.+\)", after, flags=re.MULTILINE)) >= 2


SHORTER = {
    "01_drop_in_losses": {
        'sorted(folder.glob("*.py")) + sorted(folder.glob("[a-z]*/*.py"))': (
            'sorted(folder.glob("[b-h]*.py"))'
        ),
        "epochs=12": "epochs=2",
    },
    "02_three_modalities": {"sizes=(600, 1, 300)": "sizes=(200, 1, 150)", "epochs=30": "epochs=3"},
    "03_hard_negatives": {
        "halves(mine=None, epochs=12)": "halves(mine=None, epochs=3)",
        "fit(miner, epochs=12)": "fit(miner, epochs=2)",
        "tell(k, epochs=15)": "tell(k, epochs=2)",
        "range(1, 16)": "range(1, 3)",
    },
    "04_test_your_loss": {"max_examples=20": "max_examples=3"},
    "05_big_batches": {
        "rounds=3": "rounds=1",
        "sizes = [256, 512, 1024, 2048, 4096]": "sizes = [256, 2048]",
        "batches = (512, 1024, 2048, 4096)": "batches = (512, 1024)",
    },
    "06_reproduce_a_paper": {
        "sizes=(480, 100, 240)": "sizes=(48, 16, 24)",
        '"epochs=8"': '"epochs=2", "hidden_size=12", "heads=2", "layers=1"',
    },
    "07_three_at_once": {"steps=300": "steps=25"},
    "08_retrieval": {
        "PASSAGES, OWN, SIZE = 300, 1500": "PASSAGES, OWN, SIZE = 300, 600",
        "epochs=12": "epochs=4",
        "range(1, 13)": "range(1, 5)",
        "range(4, 13)": "range(4, 5)",
    },
}
"""What trains for less time here than where the outputs are made; every cell runs all the same."""


def run(notebook, folder):
    """What was said, if it did not run to its end."""
    path = folder / "run.ipynb"
    nbformat.write(notebook, path)
    forks = Forks()
    forks.start("tests.cells", path, folder, IPYTHONDIR=str(folder))
    return forks.wait(600).get(0)


@pytest.mark.slow
@pytest.mark.parametrize("path", STORED)
def test_it_runs_from_start_to_end(path, tmp_path, monkeypatch):
    monkeypatch.delenv("MMCONTRAST_DATA", raising=False)  # the same everywhere, and short
    notebook, _ = read(path)
    for piece, instead in SHORTER.get(path.stem, {}).items():
        notebooks.replace(notebook, piece, instead)
    assert run(notebook, tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise KeyError('no such luck')", "KeyError: 'no such luck'"),
        ("import warnings\nwarnings.warn('beware')", "expected nothing on stderr, got .*beware"),
        (
            "from matplotlib import pyplot\npyplot.figure().suptitle(r'$\\frac{$')",
            r"found .*at char 5",  # matplotlib's words, at the end of its traceback
        ),
    ],
)
def test_what_goes_wrong_in_a_cell_is_seen(code, said, tmp_path):
    cells = [nbformat.v4.new_code_cell(text) for text in ("n = 1", code)]
    found = run(nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert found is not None
    assert re.search(said, found)


@pytest.mark.slow
def test_a_cell_sees_this_checkout_and_no_hub(tmp_path):
    code = """
import os, mmcontrast
print(mmcontrast.__file__, os.environ["HF_HUB_OFFLINE"])
open("left over", "w").close()
"""
    made = notebooks.execute(written(tmp_path, code))
    (output,) = made.cells[0].outputs
    assert output.text.split() == [str(notebooks.ROOT / "mmcontrast" / "__init__.py"), "1"]
    assert made.metadata["sources"] == notebooks.sources(made)
    assert [path.name for path in tmp_path.iterdir()] == ["one.ipynb"]
    assert not (notebooks.ROOT / "left over").exists()


@pytest.mark.slow
def test_a_cell_that_raises_ends_it(tmp_path):
    with pytest.raises(CellExecutionError, match="no such luck"):
        notebooks.execute(written(tmp_path, "raise ValueError('no such luck')"))


def test_a_piece_that_is_not_there_once_is_refused(tmp_path):
    path = written(tmp_path, "epochs = 12; epochs = 12")
    for piece in ("epochs = 13", "epochs = 12"):
        with pytest.raises(ValueError, match=f"expected one '{piece}' in the notebook"):
            notebooks.execute(path, {piece: ""})


def written(folder, code):
    """A notebook of one cell, as a file."""
    path = folder / "one.ipynb"
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_picture_keeps_its_size_and_its_look_and_gets_smaller():
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    pixels = np.broadcast_to(ramp[:, None], (200, 300, 3)).copy()
    pixels[50:150, 100:200] = (213, 94, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=0)
    before = base64.b64encode(file.getvalue()).decode()
    after = notebooks.smaller(before)
    with Image.open(io.BytesIO(base64.b64decode(after))) as image:
        assert image.mode == "P"
        found = np.asarray(image.convert("RGB")).astype(int)
    assert found.shape == pixels.shape
    assert np.abs(found - pixels).max() <= 4
    assert len(after) < len(before) / 3


def test_tidying_joins_what_was_printed_and_takes_the_times_away():
    def stream(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    cell = nbformat.v4.new_code_cell(
        "print()",
        metadata={"execution": {"iopub.status.busy": "2026-01-01"}},
        outputs=[stream("stdout", "a"), stream("stderr", "b"), stream("stdout", "c")],
    )
    notebook = notebooks.tidy(nbformat.v4.new_notebook(cells=[cell], metadata={"signed": "me"}))
    assert [(o.name, o.text) for o in notebook.cells[0].outputs] == [
        ("stdout", "ac"),
        ("stderr", "b"),
    ]
    assert notebook.cells[0].metadata == {}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "sources"}


def test_the_digest_is_of_the_code_alone():
    def made(*cells):
        return nbformat.v4.new_notebook(cells=list(cells))

    words, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    digest = notebooks.sources(made(words("a"), code("1 + 1")))
    assert digest == notebooks.sources(made(words("b"), code("1 + 1", outputs=[])))
    assert digest != notebooks.sources(made(code("1 + 2")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("File /tmp/ipykernel_1/2.py", True),
        ("saved to '/home/me/x'", True),
        ("C:\\Users", True),
        ("lib/site-packages/torch", True),
        ("https://example.org/usr/x", False),
        ("2/3 of them, 1284/229/686", False),
    ],
)
def test_a_path_of_a_machine_is_recognised(text, found):
    assert bool(MACHINE.search(text)) is found
