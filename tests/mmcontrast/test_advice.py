"""What messages advise: it is said where it helps, and following it gives what was meant."""

import re

import pytest
import torch

import mmcontrast as mm
from mmcontrast.advice import mask_instead, rows_instead
from tests.mmcontrast.strategies import close, normal

B, K, D = 4, 3, 5
X, Y = normal(1, B, D), normal(2, B, D)
EACH = normal(3, B, K, D)
CAPTIONS = normal(4, B * K, D)
IDS = torch.arange(B)
KERNEL = mm.score_kernel(IDS.float(), bandwidth=1)
MINED = mm.hard_negatives(X, Y, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.info_nce(X, EACH), "candidates: expected shape .*own_negatives=candidates"),
        (lambda: mm.sup_con(X, IDS, EACH, IDS), r"candidates: .*candidates\.flatten\(0, 1\)"),
        (lambda: mm.hard_negatives(X, EACH, 2), "candidates: .*miners take .*allowed="),
        (lambda: mm.symmetric_info_nce(X, EACH), r"y: .*info_nce\(x, y\[:, 0\]"),
        (lambda: mm.triplet(X, Y, EACH), r"negatives: .*anchors\.repeat_interleave\(K, 0\)"),
        (lambda: mm.sup_con(EACH, IDS), r"anchors: .*labels\.repeat_interleave\(V\)"),
        (
            lambda: mm.anchored_info_nce({"text": X, "audio": EACH}),
            r"features\['audio'\]: .*steps of a sequence are pooled",
        ),
        (lambda: mm.symmetric_info_nce(X, CAPTIONS), "y: .*captions.*positives=same_label"),
        (lambda: mm.matched_pair_nce(X, CAPTIONS), "y: .*captions"),
        (lambda: mm.info_nce(CAPTIONS, X), "candidates: .*a partner each, got 4 .*captions"),
        (lambda: mm.sigmoid_contrast(CAPTIONS, X), "y: .*a partner each, got 4 .*captions"),
        (lambda: mm.info_nce(X, Y.T), r"candidates: .*got \(5, 4\) \(transposed\? candidates\.T"),
        (lambda: mm.symmetric_info_nce(X, Y.T), r"y: .*\(transposed\? y\.T fits\)"),
        (lambda: mm.info_nce(X[0], Y), r"anchors: .*a single sample is anchors\[None\]"),
        (
            lambda: mm.info_nce(IDS[:, None], Y),
            r"anchors: .*got torch\.int64 \(embeddings, not ids",
        ),
        (lambda: mm.triplet(X, Y, MINED.indices), r"negatives: .*x\[indices\]"),
        (lambda: mm.info_nce(X.cfloat(), Y.cfloat()), r"anchors: .*got torch\.complex64"),
        (
            lambda: mm.info_nce(X.to_sparse(), Y),
            "anchors: expected a dense tensor, got torch.sparse",
        ),
        (
            lambda: mm.info_nce(X, Y, positives=IDS),
            "positives: .*same_label.*indices of partners are targets=",
        ),
        (
            lambda: mm.info_nce(X, Y, positives=torch.eye(B).long()),
            r"positives: .*positives\.bool\(\) makes a mask",
        ),
        (
            lambda: mm.sigmoid_contrast(X, Y, positives=KERNEL),
            r"positives: .*weights do not go here; close_scores makes a mask",
        ),
        (
            lambda: mm.intra_modal_contrast(
                {"text": X, "audio": Y},
                None,
                positives=KERNEL > 0.5,
                negatives=1 - KERNEL,
                selection=mm.PairSelection(),
            ),
            r"negatives: .*weights do not go here; far_scores makes a mask",
        ),
        (lambda: mm.score_kernel(X[:, :1], bandwidth=1), r"scores: .*scores\.squeeze\(1\) fits"),
        (lambda: mm.triplet(X, Y, Y, distance="cosine"), "distance: .*such as cosine_distance"),
        (lambda: mm.info_nce(X, Y, torch.eye(B)), r"targets: .*are positives="),
        (
            lambda: mm.info_nce(X, CAPTIONS, positives=torch.ones(B * K, B).bool()),
            r"positives: .*transposed\? positives\.T fits",
        ),
        (lambda: mm.info_nce(X, Y, keep=IDS > 0), r"keep: .*keep\[:, None\] & keep"),
        (lambda: mm.LossTerms(X), "terms: expected a mapping of name to term, got"),
        (
            lambda: mm.LossTerms({"a": X}, [1.0]),
            "weights: expected a mapping of name to number, got",
        ),
    ],
)
def test_the_message_says_what_to_call(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_is_advised_where_nothing_is_known():
    assert rows_instead("x", torch.ones(2, 7), None, X) == ""
    assert rows_instead("x", torch.ones(2, 3, 4, 5), None, X) == ""
    for size, rows in ((2, 4), (4, 4), (2, 0)):  # no more than the anchors, or none of these
        assert rows_instead("x", torch.ones(size, D), rows, X) == ""
    assert mask_instead("keep", torch.ones(3, 3), (2, 2)) == ""
    assert mask_instead("keep", torch.ones(3), (2, 2)) == ""


def code(words, argument):
    """The value of an argument as a message writes it."""
    written = re.search(rf"{argument}=(.*)\)$", words.rstrip(")") + "))").group(1)
    return eval(written, {"torch": torch, "B": B, "K": K})


def test_candidates_of_each_anchor_as_advised():
    """As the loss of each anchor among its own candidates alone."""
    with pytest.raises(ValueError, match="candidates") as caught:
        mm.info_nce(X, EACH)
    words = str(caught.value)
    assert "info_nce(x, candidates[:, 0], own_negatives=candidates[:, 1:], in_batch=False)" in words
    alone = {"own_negatives": EACH[:, 1:], "in_batch": False, "reduction": "none"}
    found = mm.info_nce(X, EACH[:, 0], **alone)
    for i in range(B):
        close(found[i], mm.info_nce(X[i : i + 1], EACH[i]))
    mined = mm.hard_negatives(
        X, EACH.flatten(0, 1), 2, allowed=code(words, "allowed"), exclude_positive=False
    )
    assert torch.equal(mined.indices // K, IDS[:, None].expand(B, 2))


def test_negatives_of_each_anchor_and_captions_as_advised():
    found = mm.triplet(
        X.repeat_interleave(K, 0), Y.repeat_interleave(K, 0), EACH.flatten(0, 1), reduction="none"
    )
    for k in range(K):
        close(found.reshape(B, K)[:, k], mm.triplet(X, Y, EACH[:, k], reduction="none"))
    captions = IDS.repeat_interleave(K)
    several = mm.info_nce(X, CAPTIONS, positives=mm.same_label(IDS, captions), reduction="none")
    one = [mm.info_nce(X, CAPTIONS, K * IDS + k, reduction="none") for k in range(K)]
    close(several, torch.stack(one).mean(0))
    close(
        mm.info_nce(CAPTIONS, X, positives=mm.same_label(captions, IDS)),
        mm.info_nce(CAPTIONS, X, captions),
    )
