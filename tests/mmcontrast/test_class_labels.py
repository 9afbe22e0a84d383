"""Class labels, targets and indices of every dtype, for every function that takes them.

Fractions are scores, not classes: each would be a class of its own, and a loss by them would be
zero. Small integers must not overflow, and as an index uint8 must not become a mask.
"""

import math
import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.interop.pml_tuples import from_pml_tuple, label_masks
from mmcontrast.mining import HardNegatives
from tests.mmcontrast.public_cases import tensors
from tests.mmcontrast.strategies import modalities, normal

N, MANY = 6, 300
X, Y, FAR = normal(1, N, 4), normal(2, N, 4), normal(3, MANY, 4)
FEATURES = modalities(4, N, 4)
IDS = torch.tensor([0, 1, 0, 2, 1, 0])
SMALL = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.bool]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

LABELLED = {
    "sup_con": lambda y: mm.sup_con(X, y),
    "sup_con, in": lambda y: mm.sup_con(X, y, form="in", chunk_size=2),
    "sup_con, tiles": lambda y: mm.sup_con(X, y, chunk_size=2),
    "sup_con, candidates": lambda y: mm.sup_con(X, IDS, Y, y),
    "hybrid_contrast": lambda y: mm.hybrid_contrast(FEATURES, y),
    "intra_modal_contrast": lambda y: mm.intra_modal_contrast(FEATURES, y),
    "inter_modal_contrast": lambda y: mm.inter_modal_contrast(FEATURES, y),
    "intra_modal_pairs": lambda y: mm.intra_modal_pairs(FEATURES, y),
    "inter_modal_pairs": lambda y: mm.inter_modal_pairs(FEATURES, y),
    "hard_triplets": lambda y: mm.hard_triplets(X, y),
    "hard_triplets, blocks": lambda y: mm.hard_triplets(X, y, chunk_size=2),
    "hard_negatives": lambda y: mm.hard_negatives(X, Y, 2, labels=y),
    "hard_negatives, blocks": lambda y: mm.hard_negatives(X, Y, 2, labels=y, chunk_size=2),
    "hard_negatives, candidates": lambda y: mm.hard_negatives(
        X, Y, 2, labels=IDS, candidate_labels=y
    ),
    "diagnose": lambda y: tensors([mm.diagnose(X, Y, labels=y, k=2).false_negatives]),
    "diagnose, candidates": lambda y: tensors(
        [mm.diagnose(X, Y, labels=IDS, candidate_labels=y, k=2).false_negatives]
    ),
    "multilevel, B": lambda y: mm.multilevel_contrast({"a": [(X, Y)]}, pair_design="B", labels=y),
    "multilevel, C": lambda y: mm.multilevel_contrast({"a": [(X, Y)]}, pair_design="C", labels=y),
    "same_label": mm.same_label,
    "same_label, others": lambda y: mm.same_label(IDS, y),
    "different_label": mm.different_label,
    "different_label, others": lambda y: mm.different_label(IDS, y),
    "pml_tuples": lambda y: label_masks(y, IDS, False),
}
every_function = pytest.mark.parametrize("call", LABELLED.values(), ids=LABELLED)


def agree(found, expected):
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)


@every_function
@pytest.mark.parametrize("scores", [[0.2, 1.0, -0.4, 2, 1, 0], [[0, 1], [0, 0.5]] * 3])
def test_scores_are_no_classes(call, scores):
    with pytest.raises(ValueError, match=r"labels|others") as error:
        call(torch.tensor(scores))
    if torch.tensor(scores).ndim == 1:  # of two columns, a function may first refuse their number
        for name in ("sentiment_classes", "close_scores", "score_kernel", "rank_n_contrast"):
            assert name in str(error.value)
        assert str(error.value).endswith("got 0.2")


@every_function
def test_complex_numbers_are_no_classes(call):
    with pytest.raises(
        ValueError, match=r"(labels|others): expected (classes|real numbers).*complex64"
    ):
        call(IDS.to(torch.complex64))


@every_function
@pytest.mark.parametrize("dtype", [*SMALL, *FLOATS, torch.float8_e4m3fn])
def test_whole_labels_of_every_dtype_are_classes(call, dtype):
    ids = IDS % 2 if dtype == torch.bool else IDS
    agree(call(ids.to(dtype)), call(ids))


@every_function
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_unlabelled_and_no_fraction(call, dtype):
    some = torch.tensor([False, True, False, False, False, False])
    found = call(IDS.to(dtype).masked_fill(some, math.nan))
    agree(found, call(IDS.masked_fill(some, mm.IGNORE)))


def test_a_class_label_is_read_where_it_can_be_and_nowhere_else():
    scores = torch.tensor([0.5, 1.0, 0.5])
    x = torch.eye(3)
    assert mm.sup_con(x.to("meta"), scores.to("meta")).is_meta
    with FakeTensorMode() as mode:
        mm.sup_con(mode.from_tensor(x), mode.from_tensor(scores))
    torch.vmap(mm.same_label)(scores[None])
    torch._dynamo.reset()
    torch.compile(mm.same_label, fullgraph=True, backend="eager")(scores)
    with pytest.raises(ValueError, match="labels"):  # the rows are transformed, the labels are not
        torch.func.grad(lambda x: mm.sup_con(x, scores))(x)


TARGETS = {
    "info_nce": lambda t: mm.info_nce(X, FAR, t),
    "info_nce, blocks": lambda t: mm.info_nce(X, FAR, t, chunk_size=2),
    "info_nce, keep": lambda t: mm.info_nce(X, FAR, t, keep=torch.ones(N, MANY).bool()),
    "hard_negatives": lambda t: mm.hard_negatives(X, FAR, 3, targets=t),
    "hard_negatives, after": lambda t: mm.hard_negatives(
        X, FAR, 3, targets=t, exclude_positive="after", chunk_size=2
    ),
    "diagnose": lambda t: mm.diagnose(X, FAR, t)._replace(false_negatives=torch.zeros(())),
    "n_pair": lambda t: mm.n_pair(X, FAR, t),
}


@pytest.mark.parametrize("call", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", [d for d in SMALL if d != torch.bool])
def test_targets_of_every_dtype_are_indices(call, dtype):
    targets = torch.tensor([127, 0, 3, 99, 1, 2])
    agree(call(targets.to(dtype)), call(targets))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32])
def test_targets_of_every_signed_dtype_can_be_none_or_wrong(dtype):
    targets = torch.tensor([127, -100, 3, 99, 1, 2])
    agree(mm.info_nce(X, FAR, targets.to(dtype)), mm.info_nce(X, FAR, targets))
    with pytest.raises(ValueError, match="targets: expected indices from 0 to 299"):
        mm.info_nce(X, FAR, targets.sub(1).to(dtype))  # -101


def test_a_target_beyond_few_candidates_is_found_in_a_dtype_that_holds_no_100():
    with pytest.raises(ValueError, match="targets: expected indices from 0 to 5"):
        mm.info_nce(X, Y, torch.tensor([0, 1, 2, 3, 4, 156], dtype=torch.uint8))


INDICES = {
    "pair_prediction": lambda i: mm.pair_prediction(X[:, :2], i % 2),
    "replacement_gate": lambda i: mm.replacement_gate(
        HardNegatives(i[:, None], torch.zeros(N, 1), torch.ones(N, 1).bool()), probability=1.0
    ),
    "Gate.take": lambda i: mm.Gate(i, i).take(X),
    "from_pml_tuple": lambda i: from_pml_tuple((i, i, i, i.flip(0)), N, N),
    "shift, lengths": lambda i: mm.shift(
        {"text": normal(5, N, 9, 2)}, lengths={"text": i}
    ).lengths["text"].long(),
    "shift, tokens": lambda i: mm.shift({"text": i.repeat(2, 1)}).features["text"].long(),
}  # fmt: skip


@pytest.mark.parametrize("call", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_indices_of_every_dtype(call, dtype):
    indices = torch.tensor([1, 0, 3, 2, 5, 4])
    agree([call(indices.to(dtype))], [call(indices)])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_token_ids_never_wrap(dtype):
    tokens = {"text": torch.ones(2, 3, dtype=dtype)}
    most = torch.iinfo(dtype).max
    found = mm.replace_tokens(tokens, vocabulary_size=most + 1, probability=1.0).features["text"]
    assert ((found >= 0) & (found != 1)).all()
    for call, name in (
        (lambda: mm.replace_tokens(tokens, vocabulary_size=most + 2), "vocabulary_size"),
        (lambda: mm.shift(tokens, padding_id=most + 1), "padding_id"),
    ):
        expected = f"{name}: expected {torch.iinfo(dtype).min} to {most}, what {dtype} holds"
        with pytest.raises(ValueError, match=re.escape(expected)):
            call()
