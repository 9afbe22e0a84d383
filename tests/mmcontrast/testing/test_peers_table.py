"""What the suite finds in other libraries' losses: the defects that their users met.

A library that is not installed is skipped with its name; ``make test`` installs them all and runs
this file with them.
"""

import json
import sys
import warnings

import pytest
import torch

from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import peers_table
from tests.mmcontrast.testing.peers import module
from tests.mmcontrast.testing.peers_table import PEERS, STORED, found, line, short

NEEDS = {
    "pytorch-metric-learning": "pytorch_metric_learning",
    "lightly": "lightly.loss",
    "open_clip": "open_clip.loss",
    "sentence-transformers": "sentence_transformers.losses",
    "info-nce-pytorch": "info_nce",
    "symile": "symile",
    "SupContrast's": None,
    "memeff's": None,
    "torch": None,
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


KEEP_ALL = [
    NT_XENT,
    SUP_CON,
    "pytorch-metric-learning TripletMarginLoss of triplets",
    "lightly NTXentLoss",
    "open_clip ClipLoss",
    "open_clip SigLipLoss",
    "sentence-transformers MultipleNegativesRankingLoss",
    "info-nce-pytorch InfoNCE",
    SUP_CONTRAST,
    "torch linear_cross_entropy of cosines",
]


@pytest.mark.parametrize("name", KEEP_ALL)
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
    loss = getattr(found_or_skipped(where), what)
    made = loss(3, 3) if "classes" in LEGAL[name] else loss()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = report_on(made, LEGAL[name], max_examples=5, exclude=("gradgradcheck",))
    assert report.ok, str(report)


def found_or_skipped(where):
    try:
        return module(where)
    except ModuleNotFoundError as error:
        pytest.skip(f"{where} is not installed: {error}")


class UnderOneLaw:
    """In the place of a peer; without one, it is not installed."""

    def __init__(self, peer=None):
        self.peer = peer

    def report(self, name, **options):
        if self.peer is None:
            raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
        return self.peer.report(name, checks=["row_scale_invariant"], **options)


def test_the_table_has_a_row_for_each_and_keeps_them_in_its_order(capsys, monkeypatch, tmp_path):
    formula = UnderOneLaw(PEERS[SUP_CONTRAST])
    tried = {SUP_CONTRAST: formula, "torch again": formula, "nowhere": UnderOneLaw()}
    monkeypatch.setattr(peers_table, "PEERS", tried)
    monkeypatch.setattr(peers_table, "STORED", tmp_path / "peers.json")
    for names in (["nowhere", "again"], ["SupContrast"]):
        monkeypatch.setattr(sys, "argv", ["a", "--examples", "1", "--store", *names])
        peers_table.main()
    head = ["| loss | laws that hold | laws that fail |", "|---|---|---|"]
    assert capsys.readouterr().out.splitlines() == [
        *head,
        "| torch again | 1 of 1 | none |",
        "| nowhere | | not installed: nowhere |",
        *head,
        "| SupContrast's formula | 1 of 1 | none |",
    ]
    kept = json.loads((tmp_path / "peers.json").read_text())
    assert list(kept) == [SUP_CONTRAST, "torch again"]
    assert kept["torch again"]["version"] == torch.__version__
    assert kept[SUP_CONTRAST]["version"] is None


def test_what_is_kept_of_a_report():
    row = found(report(SUP_CONTRAST, "row_scale_invariant", "empty_batch", max_examples=2))
    assert (row["held"], row["of"], list(row["failed"])) == (1, 2, ["empty_batch"])
    assert line("a", row).startswith("| a | 1 of 2 | `empty_batch` (")
    assert line("a", {"held": 1, "of": 1, "failed": {}}) == "| a | 1 of 1 | none |"
    assert short("x" * 200, 10) == "xxxxxxx..."


def test_the_stored_table_has_all_of_them():
    assert list(json.loads(STORED.read_text())) == list(PEERS)
