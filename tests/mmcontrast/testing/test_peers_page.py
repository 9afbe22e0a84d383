"""The site's page of other libraries: each example still prints what stands there.

When one prints something else, its library has mended it, or broken something else: then the page
is to be changed. Runs with the peers, as test_peers_table.py does.
"""

import doctest
import re
import warnings
from pathlib import Path

import pytest
import torch

from tests.mmcontrast.testing.peers import module

PAGE = Path(__file__).parents[3] / "notebooks" / "site" / "other_libraries.md"
FENCE = re.compile(r"^```pycon\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.REPORT_NDIFF
SECTIONS = re.findall(r"^### (.+)\n((?:(?!^#).*\n)*)", PAGE.read_text(), flags=re.MULTILINE)
NEEDS = {
    "torch": "torch",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "sentence-transformers": "sentence_transformers.sentence_transformer.losses",
    "lightly": "lightly.loss",
    "SupContrast": "torch",
    "memeff": "torch",
    "symile": "symile",
}


def test_each_defect_has_one_example():
    assert len(SECTIONS) >= 20
    for heading, text in SECTIONS:
        assert heading.partition(":")[0] in NEEDS
        assert len(FENCE.findall(text)) == 1, heading


@pytest.mark.parametrize(("heading", "text"), SECTIONS, ids=[heading for heading, _ in SECTIONS])
def test_the_example_still_shows_it(heading, text):
    try:
        module(NEEDS[heading.partition(":")[0]])
    except ModuleNotFoundError as error:
        pytest.skip(f"not installed: {error}")
    (block,) = FENCE.findall(text)
    test = doctest.DocTestParser().get_doctest(block, {}, heading, str(PAGE), 0)
    said = []
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a library still uses
        failed = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append).failed
    assert not failed, "".join(said)
