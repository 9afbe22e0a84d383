"""The README's Python runs, and what it names exists."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

import mmcontrast
from reference_models.__main__ import _parser
from reference_models.registry import MODELS

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


def test_commands_have_the_options_that_there_are():
    console = "".join(re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    lines = re.sub(r"\\\n", "", console).splitlines()
    calls = [line.partition("-m reference_models ")[2] for line in lines if "-m ref" in line]
    assert len(calls) >= 7
    for call in calls:
        parsed = _parser().parse_args(shlex.split(call, comments=True))
        assert callable(parsed.run)


def test_the_table_of_models_names_all_of_them():
    table = README.split("| model | paper | composed from |")[1].split("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row[1])} == set(MODELS)
    used = {name for row in rows for name in re.findall(r"`(\w+)`", row[3])}
    assert used <= set(mmcontrast.__all__)


def test_make_targets_exist():
    makefile = (Path(__file__).resolve().parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"(?:\$ |`)make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
