"""mmcontrast.interop.pml against pytorch-metric-learning itself."""

import functools

import pytest
import torch
from torch import nn

import mmcontrast as mm
from mmcontrast.interop import pml
from tests.mmcontrast.peers import peer, same_value_and_gradient
from tests.mmcontrast.strategies import close

pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = torch.tensor([3, 3, 5, 5, 5, 9, 9, 9])


@pytest.fixture
def rows(generator):
    return torch.randn(8, 5, dtype=torch.float64, generator=generator)


@pytest.fixture
def others(generator):
    return torch.randn(6, 5, dtype=torch.float64, generator=generator)


OTHER_LABELS = torch.tensor([9, 3, 5, 3, 1, 9])


# --- our miners ----------------------------------------------------------------------------------


def cosines(x, y):
    return mm.l2_normalize(x) @ mm.l2_normalize(y).T


def test_hard_triplets_are_its_batch_hard_miners(rows, others):
    miners = peer("pytorch_metric_learning.miners")
    distances = peer("pytorch_metric_learning.distances")
    theirs = miners.BatchHardMiner(distance=distances.CosineSimilarity())
    ours = pml.HardTripletMiner()
    assert isinstance(ours, miners.BaseMiner)
    for call in (lambda m: m(rows, LABELS), lambda m: m(rows, LABELS, others, OTHER_LABELS)):
        for x, y in zip(call(ours), call(theirs), strict=True):
            assert torch.equal(x, y)
    assert ours.num_triplets == 8


def test_hard_triplets_leave_out_who_lacks_a_positive(rows):
    peer("pytorch_metric_learning")
    a, _, _ = pml.HardTripletMiner()(rows, torch.tensor([0, 0, 1, 2, 2, 2, -100, 3]))
    assert a.tolist() == [0, 1, 3, 4, 5]
    a, p, n = pml.HardTripletMiner()(rows, LABELS, rows[:2] + 1, torch.tensor([3, 3]))
    assert len(a) == len(p) == len(n) == 0  # the two of class 3 have no negative there
    a, _, _ = pml.HardTripletMiner()(rows, LABELS, rows[:2] + 1, torch.tensor([3, 5]))
    assert a.tolist() == [0, 1, 2, 3, 4]  # those of class 9 have no positive there


BATCH = torch.arange(40) % 7


def lengths(normalize=False, power=1):
    kind = peer("pytorch_metric_learning.distances").LpDistance
    return kind(normalize_embeddings=normalize, power=power)


def batch(seed):
    """Rows of different lengths, so that cosines and distances disagree."""
    return torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("distance", "power"), [(mm.euclidean, 1), (mm.squared_euclidean, 2)])
def test_triplets_by_distance_are_its_batch_hard_miners(distance, power):
    miner = peer("pytorch_metric_learning.miners").BatchHardMiner(distance=lengths(power=power))
    found = mm.hard_triplets(batch(1), BATCH, distance=distance)
    for x, y in zip(found, miner(batch(1), BATCH), strict=True):
        assert torch.equal(x, y)


def test_semi_hard_triplets_are_its_batch_easy_hard_miners():
    """Which knows no margin: the largest takes its place."""
    kind = peer("pytorch_metric_learning.miners").BatchEasyHardMiner
    miner = kind("hard", "semihard", distance=lengths())
    x = torch.cat([batch(2), 9 * batch(3)])  # some anchors' positive is farther than all others
    ids = torch.cat([BATCH, BATCH])
    a, p, n = mm.hard_triplets(x, ids, distance=mm.euclidean, semi_hard=1e9)
    found = p != a
    assert 0 < found.sum() < 80
    theirs = miner(x, ids)
    for ours, other in zip((a, p, a, n), theirs, strict=True):
        assert torch.equal(ours[found], other)


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_semi_hard_negatives_of_all_pairs_are_its_triplet_margin_miners(margin):
    kind = peer("pytorch_metric_learning.miners").TripletMarginMiner
    miner = kind(margin=margin, type_of_triplets="semihard", distance=lengths())
    x, theirs = batch(4), set(zip(*[v.tolist() for v in miner(batch(4), BATCH)], strict=True))
    a, p = (mm.same_label(BATCH) & mm.off_diagonal(40)).nonzero(as_tuple=True)
    given = {"targets": p, "labels": BATCH[a], "candidate_labels": BATCH}
    found = mm.hard_negatives(x[a], x, 40, distance=mm.euclidean, semi_hard=margin, **given)
    rows, places = found.valid.nonzero(as_tuple=True)
    ours = zip(
        a[rows].tolist(), p[rows].tolist(), found.indices[rows, places].tolist(), strict=True
    )
    assert set(ours) == theirs
    assert len(theirs) > 100


@pytest.mark.parametrize("k", [1, 3, 50])
def test_hard_negatives(rows, others, k):
    peer("pytorch_metric_learning")
    miner = pml.HardNegativeMiner(k)
    for refs, labels in ((rows, LABELS), (others, OTHER_LABELS)):
        itself = refs is rows
        arguments = () if itself else (refs, labels)
        a1, p, a2, n = miner(rows, LABELS, *arguments)
        similar = cosines(rows, refs)
        pairs, hardest = [], []
        for i in range(8):
            pairs += [
                (i, j)
                for j in range(len(refs))
                if LABELS[i] == labels[j] and not (itself and i == j)
            ]
            apart = [j for j in range(len(refs)) if LABELS[i] != labels[j]]
            hardest += [(i, j) for j in sorted(apart, key=lambda j: -similar[i, j])[:k]]
        assert list(zip(a1.tolist(), p.tolist(), strict=True)) == pairs
        assert list(zip(a2.tolist(), n.tolist(), strict=True)) == hardest


def test_selected_pairs(rows, others):
    peer("pytorch_metric_learning")
    selection = mm.PairSelection(0.3)
    miner = pml.PairSelectionMiner(selection)
    for refs, labels in ((rows, LABELS), (others, OTHER_LABELS)):
        itself = refs is rows
        found = miner(rows, LABELS, *(() if itself else (refs, labels)))
        masks = mm.same_label(LABELS, labels), mm.different_label(LABELS, labels)
        if itself:
            masks = masks[0] & mm.off_diagonal(8), masks[1]
        expected = mm.select_pairs(cosines(rows, refs), *masks, selection=selection)
        back = pml.from_pml_tuple(found, 8, len(refs))
        assert torch.equal(back[0], expected[0])
        assert torch.equal(back[1], expected[1])


MINERS = [
    lambda: pml.HardTripletMiner(),
    lambda: pml.HardNegativeMiner(2),
    lambda: pml.PairSelectionMiner(mm.PairSelection(0.3)),
]


@pytest.mark.parametrize("make", MINERS)
def test_its_losses_take_what_our_miners_find(rows, make):
    losses = peer("pytorch_metric_learning.losses")
    x = rows.clone().requires_grad_()
    found = make()(x, LABELS)
    for loss in (losses.TripletMarginLoss(), losses.ContrastiveLoss(), losses.NTXentLoss()):
        value = loss(x, LABELS, found)
        assert value.isfinite()
        assert value.requires_grad
    for x in found:
        assert not x.requires_grad


# --- its miners in our losses --------------------------------------------------------------------


def test_our_losses_take_what_its_miners_find(rows):
    """SupCon over the pairs of its miner, against its own SupConLoss over the same pairs."""
    miners, losses = (peer(f"pytorch_metric_learning.{name}") for name in ("miners", "losses"))
    found = miners.MultiSimilarityMiner(epsilon=0.3)(rows, LABELS)
    everything = miners.MultiSimilarityMiner(epsilon=50.0)(rows, LABELS)
    assert 0 < len(found[2]) < len(everything[2])
    positives, negatives = pml.from_pml_tuple(found, 8, 8)
    same_value_and_gradient(
        lambda x: mm.info_nce(
            x, x, positives=positives, keep=positives | negatives, temperature=0.2
        ),
        lambda x: losses.SupConLoss(temperature=0.2)(x, LABELS, found),
        rows,
    )


def test_our_triplet_loss_takes_its_triplets(rows):
    miners, losses = (peer(f"pytorch_metric_learning.{name}") for name in ("miners", "losses"))
    a, p, n = miners.TripletMarginMiner(margin=0.3)(rows, LABELS)
    same_value_and_gradient(
        lambda x: mm.triplet(*(mm.l2_normalize(x)[i] for i in (a, p, n)), margin=0.3),
        lambda x: peer_mean_triplet(losses, 0.3)(x, LABELS, (a, p, n)),
        rows,
    )


def peer_mean_triplet(losses, margin):
    reducers = peer("pytorch_metric_learning.reducers")
    return losses.TripletMarginLoss(margin=margin, reducer=reducers.MeanReducer())


# --- our losses as its losses --------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_mask_loss_of_info_nce_is_its_sup_con(rows, others, temperature):
    losses = peer("pytorch_metric_learning.losses")
    ours = pml.MaskLoss(functools.partial(mm.info_nce, temperature=temperature))
    theirs = losses.SupConLoss(temperature=temperature)
    assert isinstance(ours, losses.BaseMetricLossFunction)
    same_value_and_gradient(lambda x: ours(x, LABELS), lambda x: theirs(x, LABELS), rows)
    triplets = peer("pytorch_metric_learning.miners").TripletMarginMiner(margin=0.3)(rows, LABELS)
    same_value_and_gradient(
        lambda x: ours(x, LABELS, triplets), lambda x: theirs(x, LABELS, triplets), rows
    )
    same_value_and_gradient(
        lambda x, y: ours(x, LABELS, ref_emb=y, ref_labels=OTHER_LABELS),
        lambda x, y: theirs(x, LABELS, ref_emb=y, ref_labels=OTHER_LABELS),
        rows,
        others,
    )


def test_mask_loss_with_unique_partners_is_its_nt_xent(rows, generator):
    losses = peer("pytorch_metric_learning.losses")
    views = torch.randn(8, 5, dtype=torch.float64, generator=generator)
    ids = torch.arange(8)
    ours = pml.MaskLoss(mm.InfoNCE(temperature=0.2))
    same_value_and_gradient(
        lambda x, y: ours(x, ids, ref_emb=y, ref_labels=ids.clone()),
        lambda x, y: losses.NTXentLoss(0.2)(x, ids, ref_emb=y, ref_labels=ids.clone()),
        rows,
        views,
    )


def sup_con(losses, temperature=0.2):
    """Ours for its wrappers, and its own."""
    ours = pml.SupConLoss(functools.partial(mm.info_nce, temperature=temperature))
    return ours, losses.SupConLoss(temperature=temperature)


@pytest.mark.parametrize("mined", [False, True])
def test_its_cross_batch_memory_takes_ours(mined, generator):
    """Four batches through a memory of 20, which the third fills: the values and gradients."""
    losses = peer("pytorch_metric_learning.losses")
    memories = [
        losses.CrossBatchMemory(
            loss.double(), 5, memory_size=20, miner=pml.HardNegativeMiner(3) if mined else None
        )
        for loss in sup_con(losses)
    ]
    for _ in range(4):
        x = torch.randn(8, 5, dtype=torch.float64, generator=generator)
        same_value_and_gradient(*(lambda x, m=m: m(x, LABELS) for m in memories), x)
    assert memories[0].has_been_filled


@pytest.mark.parametrize("symmetric", [False, True])
def test_its_self_supervised_loss_takes_ours(rows, others, symmetric):
    losses = peer("pytorch_metric_learning.losses")
    ours, theirs = (losses.SelfSupervisedLoss(loss, symmetric) for loss in sup_con(losses))
    same_value_and_gradient(ours, theirs, rows, others[torch.arange(8) % len(others)])


def test_any_loss_goes_into_its_wrappers_and_is_trained(rows):
    losses = peer("pytorch_metric_learning.losses")
    loss = losses.CrossBatchMemory(pml.SupConLoss(mm.SigmoidContrast()), 5, memory_size=16)
    loss(rows.float(), LABELS).backward()
    assert all(x.grad is not None and x.grad != 0 for x in loss.parameters())
    assert len([*loss.parameters()]) == 2
    with pytest.raises(Exception, match="not supported for MaskLoss"):
        losses.CrossBatchMemory(pml.MaskLoss(mm.info_nce), 5)


def test_mask_loss_gives_its_reducers_the_single_values(rows):
    reducers = peer("pytorch_metric_learning.reducers")
    values = functools.partial(mm.info_nce, reduction="none")
    single = pml.MaskLoss(values, reducer=reducers.DoNothingReducer())(rows, LABELS)
    assert single["loss"]["indices"].tolist() == list(range(8))
    mean = pml.MaskLoss(values, reducer=reducers.MeanReducer())(rows, LABELS)
    close(mean, single["loss"]["losses"].mean())
    close(mean, pml.MaskLoss(mm.info_nce)(rows, LABELS))


def test_mask_loss_adds_its_regularizers(rows):
    regularizers = peer("pytorch_metric_learning.regularizers")
    plain = pml.MaskLoss(mm.info_nce)(rows, LABELS)
    regularizer = regularizers.LpRegularizer()
    found = pml.MaskLoss(mm.info_nce, embedding_regularizer=regularizer, embedding_reg_weight=0.5)
    close(found(rows, LABELS), plain + 0.5 * rows.norm(dim=1).mean())


def test_mask_loss_of_nobody_is_zero_with_a_graph(rows):
    peer("pytorch_metric_learning")
    x = rows.clone().requires_grad_()
    value = pml.MaskLoss(mm.info_nce)(x, torch.arange(8))
    assert value == 0
    assert torch.equal(torch.autograd.grad(value, x)[0], torch.zeros_like(x))


def test_mask_loss_needs_labels_or_pairs(rows):
    peer("pytorch_metric_learning")
    with pytest.raises(ValueError, match="labels: expected labels, or an indices_tuple"):
        pml.MaskLoss(mm.info_nce)(rows)


# --- training ------------------------------------------------------------------------------------


class InForm(nn.Module):
    """SupCon's "in" form, whose least value is 0, by masks."""

    def __init__(self):
        super().__init__()
        self.sup_con = mm.SupCon(form="in", temperature=mm.LearnableTemperature(0.2))

    def forward(self, anchors, candidates, **masks):
        return self.sup_con(anchors, None, candidates, **masks)


@pytest.mark.parametrize("make", MINERS)
def test_its_trainer_trains_with_our_miner_and_our_loss(make, generator):
    """MetricLossOnly with a trunk, on three clouds."""
    trainers = peer("pytorch_metric_learning.trainers")
    centres = torch.randn(3, 6, generator=generator)
    labels = torch.arange(24) % 3
    data = [(centres[y] + 0.8 * torch.randn(6, generator=generator), y.item()) for y in labels]
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    loss = pml.MaskLoss(InForm())
    seen = []
    trainers.MetricLossOnly(
        {"trunk": trunk},
        {
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), 0.02),
            "metric_loss_optimizer": torch.optim.Adam(loss.parameters(), 0.02),
        },
        12,
        {"metric_loss": loss},
        data,
        mining_funcs={"tuple_miner": make()},
        end_of_iteration_hook=lambda trainer: seen.append(trainer.losses["metric_loss"].item()),
        dataloader_num_workers=0,
        dataset_labels=labels,
    ).train(num_epochs=8)
    assert len(seen) == 16
    assert sum(seen[-4:]) < 0.5 * sum(seen[:4])
    assert abs(loss.loss.sup_con.temperature() - 0.2) > 0.01


def test_without_the_library_the_miners_say_so(monkeypatch):
    def without(missing):
        def absent(name):
            raise ModuleNotFoundError(name, name=missing)

        monkeypatch.setattr(pml.importlib, "import_module", absent)

    without("pytorch_metric_learning")
    with pytest.raises(ImportError, match="pytorch_metric_learning is not installed"):
        pml._base("miners", "BaseMiner")()
    without("sklearn")
    with pytest.raises(ModuleNotFoundError, match="miners"):
        pml._base("miners", "BaseMiner")
