"""What the suite finds in other libraries' losses: the defects that their users met.

A library that is not installed is skipped with its name; ``make test`` installs them all and runs
this file with them.
"""

import warnings

import pytest

from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing.peers_table import PEERS, line, module, short, table

NEEDS = {
    "pytorch-metric-learning": "pytorch_metric_learning",
    "lightly": "lightly.loss",
    "open_clip": "open_clip.loss",
    "sentence-transformers": "sentence_transformers.losses",
    "info-nce-pytorch": "info_nce",
    "SupContrast's": None,
}
NT_XENT = "pytorch-metric-learning NTXentLoss"
SUP_CON = "pytorch-metric-learning SupConLoss"
MEMORY = "pytorch-metric-learning CrossBatchMemory"
SUP_CONTRAST = "SupContrast's formula"


def report(name, *laws, **options):
    """The suite on a peer, or a skip that says which library is missing."""
    needed = NEEDS[name.split()[0]]
    try:
        if needed is not None:
            module(needed)
    except ModuleNotFoundError as error:
        pytest.skip(f"{needed} is not installed: {error}")
    return PEERS[name].report(name, checks=laws or None, **options)


def test_defect_1_values_that_saturate_in_low_precision():
    found = report(
        NT_XENT, "low_precision_is_close", "precise_at_any_temperature", "low_temperature_limit"
    )
    assert set(found.failed) == {
        "low_precision_is_close",
        "precise_at_any_temperature",
        "low_temperature_limit",
    }
    assert found["low_precision_is_close"].message.startswith("torch.float16: ")
    assert "at temperature 0.01" in found["precise_at_any_temperature"].message
    low = report(NT_XENT, "low_precision_is_close", temperature=0.01)
    assert low["low_precision_is_close"].message.startswith("torch.float32: ")


@pytest.mark.parametrize(
    "name",
    [
        "open_clip ClipLoss",
        "open_clip SigLipLoss",
        "info-nce-pytorch InfoNCE",
        "lightly NTXentLoss",
    ],
)
def test_defect_2_a_row_of_zeros_is_nan_in_float16(name):
    found = report(name, "zero_row_is_finite", max_examples=20)
    assert found["zero_row_is_finite"].message == (
        "with a row of zeros in torch.float16, the loss is nan"
    )


def test_defect_3_nan_at_ordinary_temperatures():
    found = report(SUP_CONTRAST, "finite_at_any_temperature")
    assert found["finite_at_any_temperature"].message.startswith("at temperature 0.01, the ")


def test_defect_4_a_mean_that_depends_on_the_dtype():
    laws = ("low_precision_is_close", "precise_at_any_temperature")
    found = report(SUP_CON, *laws, max_examples=400)  # a loss that underflows is one batch of many
    assert set(found.failed) == {"low_precision_is_close", "precise_at_any_temperature"}


def test_defect_5_a_queue_that_is_lost_on_resume():
    found = report(MEMORY, "copies_are_worth_the_same", max_examples=10)
    assert "loaded from its state_dict, it is " in found["copies_are_worth_the_same"].message


@pytest.mark.parametrize("name", [name for name in PEERS if name != MEMORY])
def test_what_all_of_them_do(name):
    """The suite is no enemy: these laws hold in all of them."""
    laws = (
        "returns_a_scalar",
        "permutation_invariant",
        "row_scale_invariant",
        "rotation_invariant",
        "strides_do_not_matter",
        "inputs_are_not_written",
        "repeats_itself",
        "modes_do_not_matter",
    )
    assert report(name, *laws, max_examples=10).ok


@pytest.mark.parametrize(
    ("name", "ok"),
    [
        (NT_XENT, True),
        ("lightly NTXentLoss", False),
        ("open_clip ClipLoss", False),
        ("open_clip SigLipLoss", False),
        ("sentence-transformers MultipleNegativesRankingLoss", False),
        ("info-nce-pytorch InfoNCE", False),
        (SUP_CONTRAST, False),
    ],
)
def test_an_empty_batch(name, ok):
    assert report(name, "empty_batch", max_examples=2).ok == ok


LABELLED = {"kind": "labelled"}
PROXIES = {**LABELLED, "features": 3, "classes": 3}
RAW = {"normalized": False, "rotation_invariant": False, "smallest": 2}
LEGAL = {
    "pytorch_metric_learning.losses ProxyNCALoss": PROXIES,
    "pytorch_metric_learning.losses ProxyAnchorLoss": PROXIES,
    "pytorch_metric_learning.losses ArcFaceLoss": {**PROXIES, "smooth": False},
    "pytorch_metric_learning.losses SoftTripleLoss": PROXIES,
    "pytorch_metric_learning.losses CircleLoss": {**LABELLED, "smooth": False},
    "pytorch_metric_learning.losses MultiSimilarityLoss": {**LABELLED, "needs_positive": False},
    "lightly.loss BarlowTwinsLoss": RAW,
    "lightly.loss VICRegLoss": RAW,
    "lightly.loss DCLLoss": {"nonnegative": False, "smallest": 2},
    "lightly.loss NegativeCosineSimilarity": {"nonnegative": False},
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_losses_of_other_kinds_with_their_traits(name):
    where, what = name.split()
    loss = getattr(found(where), what)
    made = loss(3, 3) if "classes" in LEGAL[name] else loss()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = report_on(made, LEGAL[name], max_examples=5, exclude=("gradgradcheck",))
    assert report.ok, str(report)


def found(where):
    try:
        return module(where)
    except ModuleNotFoundError as error:
        pytest.skip(f"{where} is not installed: {error}")


def test_the_table_has_a_row_for_each():
    rows = table(1, ["SupContrast"]).splitlines()
    assert rows[0] == "| loss | laws that hold | laws that fail |"
    assert len(rows) == 3
    assert rows[2].startswith("| SupContrast's formula | ")
    assert line(report(SUP_CONTRAST, "row_scale_invariant", max_examples=2)).endswith("| none |")
    assert short("x" * 200, 10) == "xxxxxxx..."
