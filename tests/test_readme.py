"""The README's Python runs, and what it names exists."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import mmcontrast

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_there_is_python_to_run():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block, "README.md", "exec"), {})


def test_the_table_of_functions_names_public_ones():
    table = README.split("## What there is")[1].split("\n\n")[1]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    names = set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert names
    assert names <= set(mmcontrast.__all__)


def test_make_targets_exist():
    makefile = (Path(__file__).resolve().parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"(?:\$ |`)make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
