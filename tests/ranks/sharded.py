"""DTensors over ranks: what test_sharded.py runs there, by name."""

import re
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.placement_types import _StridedShard

import mmcontrast as mm
from tests.mmcontrast.public_cases import CASES, Make, floats, leaves, mapped, tensors
from tests.ranks import run

SHARDED, WHOLE = (Shard(0),), (Replicate(),)

NATIVE = {
    *("l2_normalize", "softmax_normalize", "shifted_cosine_normalize", "softplus_normalize"),
    *("euclidean", "squared_euclidean", "manhattan", "chebyshev", "cosine_distance"),
    *("same_label", "different_label", "labelled", "close_scores", "far_scores", "score_kernel"),
    *("score_distance", "same_sign", "sentiment_classes"),
}
"""Functions that leave DTensors to torch, and return one."""

REFUSED = {
    "intra_modal_pairs": "has no group=",
    "inter_modal_pairs": "has no group=",
    "modality_correlation": "has no group=",
    "modality_correlation:mean": "has no group=",
    "pair_prediction": "has no group=",
    "pairwise": "has no group=",
    "select_pairs": "has no group=",
    "hardness_weights": "has no group=",
    "extreme": "has no group=",
    "diagnose": "has no group=",
    "info_nce:targets": "targets: expected None",
    "kl_distill": "teacher: expected a DTensor",
    "kl_distill:sequence": "teacher: expected a DTensor",
    "KLDistill": "teacher: expected a DTensor",
    **dict.fromkeys(
        (
            *("info_nce", "info_nce:raw", "info_nce:sum", "info_nce:chunks", "InfoNCE", "n_pair"),
            *("info_nce:variants", "info_nce:own", "info_nce:own alone", "info_nce:bias"),
        ),
        "candidates: expected 5 rows",
    ),
    **dict.fromkeys(
        ("sigmoid_contrast", "sigmoid_contrast:functions", "sigmoid_contrast:chunks"),
        "y: expected 5 rows",
    ),
}
"""Cases that do not take sharded rows, and what the error says."""

NO_ROWS = {
    "off_diagonal": "takes a number",
    "ReplacementGate": "its case gives it the miner's result, which is a plain tensor",
}


def distributed(inputs, mesh, placements):
    """The inputs' tensors as DTensors; floats are leaves that collect a gradient."""

    def place(x):
        found = distribute_tensor(x.detach(), mesh, placements)
        return found.requires_grad_(x.is_floating_point())

    return mapped(place, inputs)


def close(found, expected, name):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, msg=lambda m: f"{name}: {m}")


def same(name, call, inputs, mesh, placements, kind=torch.Tensor):
    """Values, and gradients of a sum that counts each number differently, are one process's."""
    alone, given = leaves(inputs), distributed(inputs, mesh, placements)
    expected, found = (tensors(call(*x)) for x in (alone, given))
    own = distribute_tensor(torch.arange(len(tensors(inputs)[0])), mesh, SHARDED).to_local()
    truth = total = 0
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert type(x) is kind, name
        factors = torch.arange(1.0, y.numel() + 1).reshape(y.shape) + k
        truth = truth + (y * factors).sum()
        if isinstance(x, DTensor):
            x = x.full_tensor()
        elif placements == SHARDED and y.ndim:  # this rank's rows
            y, factors = y[own], factors[own]
        close(x, y, name)
        total = total + (x * factors).sum()
    if truth.requires_grad:
        pairs = [
            torch.autograd.grad(value, floats(x), allow_unused=True)
            for value, x in ((total, given), (truth, alone))
        ]
        for x, y in zip(*pairs, strict=True):
            assert (x is None) == (y is None), name
            if x is not None:
                close(x.full_tensor(), y, f"{name}, gradient")


def cases(rank, world):
    """Every public function takes sharded rows as one process does, or refuses them; and copies."""
    mesh = init_device_mesh("cpu", (world,))
    for name, case in CASES.items():
        inputs, native = case.inputs(Make(n=5)), name in NATIVE
        if name in NO_ROWS:
            continue
        kind = DTensor if native else torch.Tensor
        same(name, case.call, inputs, mesh, WHOLE, kind)
        if name in REFUSED:
            with pytest.raises(ValueError, match=re.escape(REFUSED[name])):
                case.call(*distributed(inputs, mesh, SHARDED))
        else:
            same(name, case.call, inputs, mesh, SHARDED, kind)


def split_features(rank, world):
    """Rows of which each rank has some features are refused, so that no rank waits."""
    mesh = init_device_mesh("cpu", (world,))
    for name, case in CASES.items():
        inputs = case.inputs(Make(n=5))
        if name in NO_ROWS or all(x.ndim == 1 for x in tensors(inputs)):
            continue
        given = mapped(lambda x: distribute_tensor(x, mesh, (Shard(min(x.ndim - 1, 1)),)), inputs)
        expected = "a DTensor with whole rows" if name in NATIVE else "a DTensor placed Replicate"
        with pytest.raises(ValueError, match=expected) as error:
            case.call(*given)
        assert ".redistribute(" in str(error.value)


def unfinished_sums(rank, world):
    """Partial() floats: torch adds them up where it computes, and all else refuses them."""
    mesh = init_device_mesh("cpu", (world,))
    for name, case in CASES.items():
        inputs = case.inputs(Make(n=5))
        if name in NO_ROWS or not floats(inputs):
            continue
        given = mapped(
            lambda x: (
                DTensor.from_local(x * (2 * rank + 1) / world**2, mesh, (Partial(),))
                if x.is_floating_point()
                else distribute_tensor(x, mesh, WHOLE)
            ),
            inputs,
        )
        if name in NATIVE:
            for x, y in zip(tensors(case.call(*given)), tensors(case.call(*inputs)), strict=True):
                close(x.full_tensor(), y, name)
        else:
            with pytest.raises(ValueError, match="a DTensor placed Replicate"):
                case.call(*given)


class Rows:
    """Rows of all ranks with what goes with them; ``n`` of them leave some ranks with fewer."""

    def __init__(self, n):
        # Of this seed, no three rows that make a volume are nearly in one plane, from where the
        # last bit of an input can change a gradient's eighth digit.
        make = Make(n=n, d=3, seed=1)
        self.x, self.y, self.z = make.rows(1), make.rows(2), make.rows(3)
        self.more = make.rows(4, n + 3)
        self.labels, self.more_labels = make.classes(), torch.arange(n + 3) % 2
        self.scores, self.more_scores = make.ratings(), torch.arange(n + 3) % 4
        self.weight = make.weight()
        self.keep, self.several = make.mask(5, n, n) | torch.eye(n).bool(), make.mask(6, n, n)
        self.wide = make.mask(7, n, n + 3)
        self.present = make.present()


LOSSES = {
    "info_nce": (lambda b: (b.x, b.y), mm.info_nce),
    "info_nce, raw": (lambda b: (b.x, b.y), partial(mm.info_nce, normalize=None)),
    "info_nce, sum": (
        lambda b: (b.x, b.y, b.weight),
        lambda x, y, w, **o: mm.info_nce(x, y, weight=w, reduction="sum", **o),
    ),
    "info_nce, none": (lambda b: (b.x, b.y), partial(mm.info_nce, reduction="none")),
    "info_nce, chunks": (lambda b: (b.x, b.y), partial(mm.info_nce, chunk_size=2)),
    "info_nce, keep": (
        lambda b: (b.x, b.y, b.keep),
        lambda x, y, k, **o: mm.info_nce(x, y, keep=k, **o),
    ),
    "info_nce, more candidates": (
        lambda b: (b.x, b.more, b.wide),
        lambda x, y, p, **o: mm.info_nce(x, y, positives=p, **o),
    ),
    "symmetric_info_nce": (
        lambda b: (b.x, b.y, b.weight),
        lambda x, y, w, **o: mm.symmetric_info_nce(x, y, weight=w, **o),
    ),
    "symmetric_info_nce, masks": (
        lambda b: (b.x, b.y, b.keep, b.several),
        lambda x, y, k, p, **o: mm.symmetric_info_nce(x, y, keep=k, positives=p, **o),
    ),
    "symmetric_info_nce, ids": (
        lambda b: (b.x, b.y, b.scores),
        lambda x, y, i, **o: mm.symmetric_info_nce(x, y, keep=mm.different_id(i), **o),
    ),
    "info_nce, ids of more candidates": (
        lambda b: (b.x, b.more, b.wide, b.scores, b.more_scores),
        lambda x, y, p, i, j, **o: mm.info_nce(x, y, positives=p, keep=mm.different_id(i, j), **o),
    ),
    "matched_pair_nce": (lambda b: (b.x, b.y), mm.matched_pair_nce),
    "sigmoid_contrast": (lambda b: (b.x, b.y), mm.sigmoid_contrast),
    "sigmoid_contrast, masks": (
        lambda b: (b.x, b.y, b.several, b.keep, b.weight),
        lambda x, y, p, k, w, **o: mm.sigmoid_contrast(x, y, positives=p, keep=k, weight=w, **o),
    ),
    "sup_con": (lambda b: (b.x, b.labels), mm.sup_con),
    "sup_con, more candidates": (
        lambda b: (b.x, b.labels, b.more, b.more_labels),
        partial(mm.sup_con, form="in"),
    ),
    "rank_n_contrast, more candidates": (
        lambda b: (b.x, b.scores, b.more, b.more_scores),
        mm.rank_n_contrast,
    ),
    "anchored_info_nce": (
        lambda b: ({"text": b.x, "audio": b.y, "vision": b.z}, b.present),
        lambda f, p, **o: mm.anchored_info_nce(f, present=p, **o).total,
    ),
    "joint_contrast": (
        lambda b: ({"text": b.x, "audio": b.y, "vision": b.z}, b.present),
        lambda f, p, **o: mm.joint_contrast(f, negatives="all", present=p, **o).total,
    ),
    "joint_contrast, volume": (
        lambda b: ({"text": b.x, "audio": b.y, "vision": b.z}, b.present),
        lambda f, p, **o: mm.joint_contrast(f, score="volume", present=p, **o).total,
    ),
    "multilevel_contrast": (
        lambda b: (b.x, b.y, b.labels),
        lambda x, y, c, **o: (
            mm.multilevel_contrast({"a": [(x, y)]}, pair_design="B", labels=c, **o).total
        ),
    ),
    "multilevel_contrast, functions": (
        lambda b: (b.x, b.y),
        lambda x, y, **o: mm.multilevel_contrast({"a": lambda: [(x, y)]}, **o).total,
    ),
}
"""Losses with a temperature."""

OTHERS = {
    "n_pair": (lambda b: (b.x, b.y), mm.n_pair),
    "kl_distill": (
        lambda b: (b.x, b.y, b.weight),
        lambda x, y, w: mm.kl_distill(x, y.detach(), weight=w),
    ),
    "triplet": (lambda b: (b.x, b.y, b.z), mm.triplet),
    "hybrid_contrast": (
        lambda b: ({"text": b.x, "audio": b.y, "vision": b.z}, b.labels, b.present, b.weight),
        lambda f, y, p, w: mm.hybrid_contrast(f, y, present=p, weight=w),
    ),
    "hybrid_contrast, none": (
        lambda b: ({"text": b.x, "audio": b.y}, b.labels),
        partial(mm.hybrid_contrast, reduction="none", selection=mm.PairSelection(0.5)),
    ),
    "hard_negatives": (lambda b: (b.x, b.y), lambda x, y: mm.hard_negatives(x, y, 2)),
    "hard_negatives, labels": (
        lambda b: (b.x, b.y, b.labels),
        lambda x, y, c: mm.hard_negatives(x, y, 9, labels=c),
    ),
    "hard_triplets": (lambda b: (b.x, b.labels), mm.hard_triplets),
}


def uneven(rank, world):
    """Three ranks with 2, 2 and 1 rows, with 2, 2 and none, and with 3, 3 and 1."""
    mesh = init_device_mesh("cpu", (world,))
    for n in (5, 4, 7):
        batch = Rows(n)
        for name, (inputs, call) in (LOSSES | OTHERS).items():
            same(f"{name}, {n} rows", call, inputs(batch), mesh, SHARDED)


def temperatures(rank, world):
    """Every rank has the gradient by a temperature that one process has; a plain one too."""
    mesh = init_device_mesh("cpu", (world,))
    batch = Rows(4)
    for name, (inputs, call) in LOSSES.items():
        whole = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        value = call(*inputs(batch), temperature=whole)
        (truth,) = torch.autograd.grad(value.sum(), whole)
        for wrap in (lambda x: x, lambda x: distribute_tensor(x, mesh, WHOLE)):
            for place in (SHARDED, WHOLE):
                own = wrap(whole.detach()).requires_grad_()
                given = distributed(inputs(batch), mesh, place)
                (found,) = torch.autograd.grad(call(*given, temperature=own).sum(), own)
                found = found.full_tensor() if isinstance(found, DTensor) else found
                close(found, truth, f"{name}, {place}")


def modules(rank, world):
    """Towers and a loss in DTensors: parameters' gradients are those of one process."""
    mesh = init_device_mesh("cpu", (world,))
    batch = Rows(5)

    def made():
        torch.manual_seed(0)
        towers = {"x": nn.Linear(3, 4), "y": nn.Linear(3, 4), "loss": mm.SigmoidContrast()}
        return nn.ModuleDict(towers).double()

    def value(model, x, y):
        return model["loss"](model["x"](x), model["y"](y))

    alone = made()
    expected = value(alone, batch.x, batch.y)
    expected.backward()
    for placements in (SHARDED, WHOLE):
        many = distribute_module(made(), mesh)
        given = (distribute_tensor(x, mesh, placements) for x in (batch.x, batch.y))
        found = value(many, *given)
        found.backward()
        close(found, expected, placements)
        for (name, one), other in zip(alone.named_parameters(), many.parameters(), strict=True):
            close(other.grad.full_tensor(), one.grad, f"{name}, {placements}")


def cached(rank, world):
    """GradCache over sharded inputs."""
    mesh = init_device_mesh("cpu", (world,))
    batch = Rows(6)
    gradients = []
    for wrap in (lambda x: x, lambda x: distribute_tensor(x, mesh, SHARDED)):
        torch.manual_seed(0)
        towers = {name: nn.Linear(3, 4).double() for name in ("x", "y")}
        if gradients:
            towers = {name: distribute_module(tower, mesh) for name, tower in towers.items()}
        cache = mm.GradCache(towers, lambda z: mm.symmetric_info_nce(z["x"], z["y"]), chunk_size=2)
        cache({"x": wrap(batch.x), "y": wrap(batch.y)})
        gradients.append([p.grad for tower in towers.values() for p in tower.parameters()])
    for one, other in zip(*gradients, strict=True):
        close(other.full_tensor(), one, "gradient")


def compiled(rank, world):
    """Under a compiler as without, in one graph; what is refused, is refused."""
    mesh = init_device_mesh("cpu", (world,))
    batch = Rows(5)

    def loss(x, y):
        return mm.symmetric_info_nce(x, y)

    for placements in (WHOLE, SHARDED):
        torch.compiler.reset()
        call = torch.compile(loss, backend="aot_eager", fullgraph=True)
        same("compiled", call, (batch.x, batch.y), mesh, placements)
    call = torch.compile(loss, backend="aot_eager")
    with pytest.raises(ValueError, match="x: expected a DTensor placed"):
        call(*distributed((batch.x, batch.y), mesh, (Shard(1),)))


def received(rank, world):
    """Rows that are still on their way from other ranks are waited for."""
    mesh = init_device_mesh("cpu", (world,))
    batch, seen = Rows(5), []

    def normalize(x):
        seen.append(type(x))
        return mm.l2_normalize(x)

    def loss(x, y):
        x, y = (z.redistribute(placements=WHOLE, async_op=True) for z in (x, y))
        return mm.symmetric_info_nce(x, y, normalize=normalize)

    x, y = distributed((batch.x, batch.y), mesh, SHARDED)
    loss(x, y).backward()
    assert set(seen) == {torch.Tensor}
    z = batch.x.clone().requires_grad_()
    mm.symmetric_info_nce(z, batch.y).backward()
    close(x.grad.full_tensor(), z.grad, "gradient")


def stateful(rank, world):
    """What draws, keeps or takes rows: of whole ones as of plain ones, of sharded ones nothing."""
    mesh = init_device_mesh("cpu", (world,))
    make = Make(n=5, names=("text", "audio"))
    features, mask = make.features(), make.mask(3, 5, 5)
    negatives = mm.HardNegatives(
        torch.arange(10).reshape(5, 2) % 5, make.normal(1, 5, 2), mask[:, :2]
    )
    tokens = {"text": torch.arange(15).reshape(5, 3), "audio": make.normal(9, 5, 3, 2)}

    def seeded():
        return torch.Generator().manual_seed(1)

    def pushed(x, y):
        queue = mm.EmbeddingQueue(8, 4, dtype=torch.float64)
        queue.push(x, y)
        return queue.embeddings, queue.labels

    distance = mm.Mahalanobis(torch.eye(4).double())
    tile = mm.Tile(
        torch.arange(5),
        torch.arange(10),
        make.normal(4, 5, 10),
        torch.zeros(5),
        partners=torch.arange(5),
        size=(5, 10),
    )
    calls = {
        "sample_one": ((mask,), lambda m: mm.sample_one(m, generator=seeded())),
        "uniform_negatives": (
            (features["text"],),
            lambda x: mm.uniform_negatives(x, 2, generator=seeded()),
        ),
        "replacement_gate": (
            tuple(negatives),
            lambda *n: mm.replacement_gate(
                mm.HardNegatives(*n), probability=0.5, generator=seeded()
            ),
        ),
        "take": (
            (features["text"],),
            mm.Gate(torch.arange(5).flip(0), torch.ones(5).long()).take,
        ),
        "swap": ((features,), lambda f: mm.swap(f, generator=seeded()).features),
        "shift": ((tokens,), lambda f: mm.shift(f, steps=1, generator=seeded()).features),
        "add_noise": ((features,), lambda f: mm.add_noise(f, generator=seeded()).features),
        "replace_tokens": (
            (tokens,),
            lambda f: (
                mm.replace_tokens(
                    f, vocabulary_size=9, modalities=["text"], generator=seeded()
                ).features
            ),
        ),
        "mixed_negatives": (
            (features,),
            lambda f: mm.mixed_negatives(f, generator=seeded()).features,
        ),
        "cross_batch_ids": (
            (make.classes(), make.ratings()),
            lambda i, j: (mm.cross_batch_ids(i, j)(tile),),
        ),
        "not_closer_than_partner": (
            (make.rows(1), make.rows(2, 10)),
            lambda x, y: (mm.not_closer_than_partner(guide=(x, y))(tile),),
        ),
        "push": ((features["text"], make.classes()), pushed),
        "extend": (
            (features["text"],),
            lambda x: mm.EmbeddingQueue(8, 4, dtype=torch.float64).extend(x, rows=5),
        ),
        "forward": ((features["text"], features["audio"]), distance),
        "whiten": ((features["text"],), distance.whiten),
        "estimate": (
            (make.rows(1, 9),),
            lambda x: tuple(mm.Mahalanobis.estimate(x).state_dict().values()),
        ),
    }
    for name, (inputs, call) in calls.items():
        expected = tensors(call(*inputs))
        for x, y in zip(tensors(call(*distributed(inputs, mesh, WHOLE))), expected, strict=True):
            assert type(x) is torch.Tensor, name
            close(x.detach(), y.detach(), name)
        with pytest.raises(ValueError, match=f"as {name} has no group=") as error:
            call(*distributed(inputs, mesh, SHARDED))
        assert "full_tensor()" in str(error.value)


def refusals(rank, world):
    """Each says which argument, what came, and what to do; on every rank alike."""
    mesh, flat = init_device_mesh("cpu", (world,)), init_device_mesh("cpu", (1, world))
    twin = DeviceMesh("cpu", list(reversed(range(world))))
    part = DeviceMesh("cpu", [0, 1])
    pair, inside = dist.new_group([0, 1]), rank < 2
    b = Rows(6)

    def put(x, *placements, mesh=mesh):
        return distribute_tensor(x, mesh, placements or SHARDED)

    x, y = put(b.x), put(b.y)
    strided = [_StridedShard(0, split_factor=2)]
    theta = put(torch.full((1,), 0.1))
    learned = mm.LearnableTemperature()
    learned.theta = nn.Parameter(theta)
    calls = {
        "theta: expected a number that every rank holds, got a DTensor placed": learned,
        r"x: .* got a DTensor placed \(Shard\(dim=1\),\) on a mesh of shape \(3,\) \(x.redistr": (
            lambda: mm.symmetric_info_nce(put(b.x, Shard(1)), put(b.y, Shard(1)))
        ),
        r"x: .* got a DTensor placed \(_StridedShard\(dim=0": (
            lambda: mm.symmetric_info_nce(*2 * [DTensor.from_local(b.x, mesh, strided)])
        ),
        r"x: .* got a DTensor placed \(Replicate\(\), Shard\(dim=0\)\) on a mesh of shape \(1": (
            lambda: mm.symmetric_info_nce(
                *(put(z, Replicate(), Shard(0), mesh=flat) for z in (b.x, b.y))
            )
        ),
        r"y: expected a DTensor on the mesh of x, ranks \[0, 1, 2\], got ranks \[2, 1, 0\]": (
            lambda: mm.symmetric_info_nce(x, put(b.y, mesh=twin))
        ),
        r"x: expected a mesh of ranks in the order of its group, \[0, 1, 2\], got \[2, 1, 0\]": (
            lambda: mm.symmetric_info_nce(put(b.x, mesh=twin), put(b.y, mesh=twin))
        ),
        r"y: expected a DTensor placed \(Shard\(dim=0\),\), as x, got a plain \(6, 3\) .*distr": (
            lambda: mm.symmetric_info_nce(x, b.y)
        ),
        r"y: expected a DTensor placed .* got a DTensor placed \(Replicate\(\),\)": (
            lambda: mm.symmetric_info_nce(x, put(b.y, *WHOLE))
        ),
        r"weight: expected a DTensor placed .*, as x, got a plain \(2,\)": (
            lambda: mm.symmetric_info_nce(x, y, weight=torch.ones(2))
        ),
        r"features\['b'\]: expected a DTensor placed .*, as features\['a'\], got a plain": (
            lambda: mm.anchored_info_nce({"a": x, "b": b.y}, anchor="a")
        ),
        r"levels\['a'\]\[0\]\[1\]: expected a DTensor placed .*, as levels\['a'\]\[0\]\[0\]": (
            lambda: mm.multilevel_contrast({"a": [(x, b.y)]})
        ),
        r"targets: expected None, as anchors is sharded .* \(6,\) torch.int64 \(positives=": (
            lambda: mm.info_nce(x, y, put(torch.arange(6)))
        ),
        r"temperature: expected a number that every rank holds, got .*Shard.* \(FSDP": (
            lambda: mm.info_nce(b.x, b.y, temperature=theta)
        ),
        r"labels: expected 6 rows on all ranks, as anchors, .* got 9": (
            lambda: mm.sup_con(x, put(b.more_labels))
        ),
        r"candidates: expected 6 rows on all ranks, as anchors, so that each .*, got 9 \(x.full": (
            lambda: mm.hard_negatives(x, put(b.more), 2)
        ),
        r"distance: expected nothing to train in it .* got the Module Mahalanobis": (
            lambda: mm.triplet(x, y, y, distance=mm.Mahalanobis.learned(3).double())
        ),
        r"group: expected None, or a group of other ranks, as x is .*ranks \[0, 1, 2\] of": (
            lambda: mm.symmetric_info_nce(put(b.x, *WHOLE), put(b.y, *WHOLE), group="world")
        ),
        r"x: expected this rank's rows, got a DTensor \(x.full_tensor\(\)": lambda: mm.gather(x),
        'group: expected "world" or a process group': (
            lambda: mm.symmetric_info_nce(x, y, group="all")
        ),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()
    message = r"group: expected None, or the group of the mesh of x, ranks \[0, 1, 2\], got one"
    with pytest.raises(ValueError, match=message if inside else "a process group that this rank"):
        mm.symmetric_info_nce(x, y, group=pair)
    if not inside:
        with pytest.raises(ValueError, match=r"x: expected a mesh with this rank, 2, got one with"):
            mm.symmetric_info_nce(put(b.x, mesh=part), put(b.y, mesh=part))


def groups(rank, world):
    """The mesh's group may be given, and for whole rows one of ranks with other rows."""
    mesh = init_device_mesh("cpu", (world,))
    own = [dist.new_group([r]) for r in range(world)][rank]
    b = Rows(5)
    for group in ("world", mesh.get_group()):
        call = partial(mm.symmetric_info_nce, group=group)
        x, y = distributed((b.x, b.y), mesh, SHARDED)
        close(call(x, y), mm.symmetric_info_nce(b.x, b.y), "the mesh's group")
    same("own", partial(mm.symmetric_info_nce, group=own), (b.x, b.y), mesh, WHOLE)


if __name__ == "__main__":
    run(globals())
