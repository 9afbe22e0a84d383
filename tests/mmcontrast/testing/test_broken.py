"""The suite rejects what is wrong: each broken loss by the law that is meant to catch it."""

import os

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.testing import CHECKS, Traits, Vary
from mmcontrast.testing.broken import (
    MISTAKES,
    correct,
    labelled_miners,
    markdown_table,
    miners,
)
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import ALL_KINDS

MANY = 30  # examples: a law that catches a mistake in one of a thousand has no teeth


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_caught_by_the_law_that_is_meant_to(name):
    mistake = MISTAKES[name]
    report = report_on(
        mistake.loss, mistake.traits, checks=[mistake.law], max_examples=MANY, shrink=False
    )
    assert report.failed == (mistake.law,)


RIGHT = {
    "one way": (
        correct.correct,
        Traits(
            form="info_nce",
            temperature=0.1,
            rectangular=True,
            functional=True,
            empty="zero",
            dtypes=dict.fromkeys((torch.float32, torch.bfloat16, torch.float16)),
            factory=Vary(correct.correct, "temperature"),
        ),
    ),
    "both ways": (
        correct.correct_both_directions,
        Traits(
            form="info_nce",
            temperature=0.1,
            symmetric=True,
            functional=True,
            factory=Vary(correct.correct_both_directions, "temperature"),
        ),
    ),
    "by label": (
        correct.correct_by_label,
        Traits(
            kind="labelled",
            form="sup_con",
            temperature=0.1,
            ignore_index=-100,
            factory=Vary(correct.correct_by_label, "temperature"),
        ),
    ),
    "miner": (
        miners.correct_miner,
        Traits(kind="miner", count=miners.two_of, factory=Vary(miners.correct_miner, "k")),
    ),
    "miner by label": (
        labelled_miners.correct_triplet_miner,
        Traits(kind="labelled_miner", ignore_index=-100, count=lambda possible: 1),
    ),
    "triplet": (
        correct.correct_triplet,
        Traits(
            kind="triplet",
            normalized=False,
            translation_invariant=True,
            factory=Vary(correct.correct_triplet, "margin"),
        ),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_without_the_mistake_every_law_holds(name, examples, seed):
    """What the broken losses are made of: it is the mistake that is caught, and nothing else."""
    loss, traits = RIGHT[name]
    report_on(loss, traits, max_examples=examples, seed=seed, on_fail="raise")


def plain(a, b):
    """As it stands in most code: no claim about empty batches or float16."""
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / 0.1
    targets = torch.arange(len(a))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def plain_triplet(a, p, n):
    return F.triplet_margin_loss(a, p, n, eps=0)


def plain_modal(features):
    first, *rest = features.values()
    return sum(plain(first, x) for x in rest)


def test_plain_losses_without_special_claims_are_right(examples, seed):
    """What is not declared is not asked for."""
    options = {"on_fail": "raise", "max_examples": examples, "seed": seed}
    both = {"symmetric": True, "form": "info_nce", "temperature": 0.1}
    report_on(plain, both, **options)
    triplet = {"kind": "triplet", "normalized": False, "translation_invariant": True}
    report_on(plain_triplet, triplet, **options)
    report_on(plain_modal, {"kind": "multimodal"}, **options)


def test_every_law_catches_something():
    """A law that no broken loss breaks has not shown that it can fail."""
    assert {mistake.law for mistake in MISTAKES.values()} >= set(CHECKS) - CAUGHT_BESIDES.keys()


CAUGHT_BESIDES = {
    "gradients_permute_along": "positional_weights",
    "gradients_rotate_along": "feature_statistics",
    "single_sample": "epsilon_in_the_logarithm",
    "collapse_is_stationary": "loses_the_graph",
    "cosine_bounds": "sign_error",
    "high_temperature_limit": "sign_error",
    "precise_at_any_temperature": "naive_exponentials",
    "float32_gradients_are_close": "loses_the_graph",
    "autocast_is_close": "loses_the_graph",
    "label_dtypes": "labels_as_indices",
    "two_views_are_nt_xent": "self_not_masked",
    "larger_margin_costs_more": "margin_subtracted",
    "absent_sample_is_removed": "absent_times_zero",
    "nothing_present_is_zero": "absent_times_zero",
    "expanded_rows": "writes_to_its_inputs",
    "vectorizes": "old_style_function",
    "loss_grows_with_k": "partner_not_masked",
}


@pytest.mark.parametrize("law", CAUGHT_BESIDES)
def test_laws_that_catch_what_another_one_is_named_for(law):
    mistake = MISTAKES[CAUGHT_BESIDES[law]]
    report = report_on(mistake.loss, mistake.traits, checks=[law], max_examples=MANY, shrink=False)
    assert report.failed == (law,)


if "MMCONTRAST_EXAMPLES" in os.environ:  # minutes: not in `make test`

    @pytest.mark.parametrize("name", MISTAKES)
    def test_the_whole_suite_rejects_it(name, examples):
        mistake = MISTAKES[name]
        report = report_on(mistake.loss, mistake.traits, max_examples=examples)
        assert not report.ok
        assert mistake.law in report.failed
        assert report[mistake.law].code


def test_the_table_has_a_row_for_each():
    lines = markdown_table().splitlines()
    assert len(lines) == 2 + len(MISTAKES) >= 27
    for name, mistake in MISTAKES.items():
        (row,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert f"`{mistake.law}`" in row
        assert mistake.wrong in row


def test_there_are_mistakes_of_every_kind():
    assert {mistake.traits.kind for mistake in MISTAKES.values()} == set(ALL_KINDS)
