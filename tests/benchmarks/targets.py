"""What was set out to be reached, as ratios of two figures of one run."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from tests.benchmarks import cases, compiled, hycon, joint, own_negatives, rank_contrast
from tests.benchmarks.cases import (
    BATCH_HARD,
    HYCON,
    NT_XENT,
    ONE_WAY,
    OURS,
    OURS_COMPILED,
    OWN_NEGATIVES,
    PLAIN,
    RANKED,
    RETRIEVAL,
    SHUFFLED,
    SIGMOID,
    SUP_CON,
    SYMMETRIC,
    TOP_K,
    TOP_K_LABELS,
    TORCH,
    TORCH_COMPILED,
    VOLUMES,
    Loss,
)
from tests.benchmarks.peers import CHUNKED, METRIC_LEARNING, OPEN_CLIP, SYMILE

LOSSES = {loss.name: loss for loss in cases.LOSSES}
FLOOR = "floor"
ROWS = "4 N d floats + 4 MB"
ABSOLUTE = ""
BEFORE = "the other checkout"
NOISE = 1.03  # what two runs of the same code differ by at most
LARGE = 4096
PARTS = ("results", "compilations", "against")
"""What a run measures; each part has its own figures."""
SMALL = [SYMMETRIC, ONE_WAY, SIGMOID, SUP_CON, BATCH_HARD, TOP_K, TOP_K_LABELS]


@dataclass(frozen=True)
class Target:
    name: str
    loss: Loss
    against: str
    """A case's name, the floor, or what else ours is measured by."""
    most: float
    """Ours is at most this many times that; in the figure's unit where it is absolute."""
    d: int | None = None
    least: int = LARGE
    """The smallest N that it is meant for, and the largest."""
    largest: float = inf
    figure: str = "ms"
    case: str = OURS

    @property
    def title(self) -> str:
        """The loss, and what its case does otherwise than the usual one."""
        return self.loss.name + self.case.removeprefix(OURS)

    def fits(self, n: int, d: int) -> bool:
        return self.d in (None, d) and self.least <= n <= self.largest


TARGETS = [
    Target("C1", SYMMETRIC, FLOOR, 1.5, 64),
    Target("C1", SYMMETRIC, FLOOR, 1.4, 512),
    Target("C2", SYMMETRIC, OPEN_CLIP, 0.27, 64),
    Target("C2", SYMMETRIC, OPEN_CLIP, 0.57, 512),
    Target("C2", SYMMETRIC, CHUNKED, 0.65),
    Target("C3", SYMMETRIC, ROWS, 1.0, figure="MB"),
    Target("C3", SYMMETRIC, OPEN_CLIP, 0.01, 64, 16384, 16384, "MB"),
    Target("C3", SYMMETRIC, OPEN_CLIP, 0.05, 512, 16384, 16384, "MB"),
    Target("C3", SYMMETRIC, CHUNKED, 0.7, None, 8192, figure="MB"),
    Target("C4", SYMMETRIC, FLOOR, 1.5, 64, 65536, 65536),
    Target("C4", SYMMETRIC, ABSOLUTE, 64, 64, 65536, 65536, "MB"),
    Target("C5", ONE_WAY, FLOOR, 1.2, 64),
    Target("C5", ONE_WAY, FLOOR, 1.1, 512),
    Target("C5", ONE_WAY, CHUNKED, 1.0),
    Target("C5", SIGMOID, FLOOR, 1.25, 64),
    Target("C5", SIGMOID, FLOOR, 1.1, 512),
    Target("C5", SIGMOID, OPEN_CLIP, 0.015, None, 8192, figure="MB"),
    Target("C6", SUP_CON, FLOOR, 0.85),
    Target("C6", NT_XENT, FLOOR, 0.85),
    Target("C6", SUP_CON, METRIC_LEARNING, 1 / 12, 64),
    Target("C6", SUP_CON, METRIC_LEARNING, 1 / 3.2, 512),
    Target("C6", SUP_CON, METRIC_LEARNING, 0.015, 64, figure="MB"),
    Target("C7", BATCH_HARD, FLOOR, 0.55),
    Target("C7", BATCH_HARD, METRIC_LEARNING, 1 / 18, 64),
    Target("C7", BATCH_HARD, METRIC_LEARNING, 1 / 6, 512),
    Target("C7", BATCH_HARD, METRIC_LEARNING, 0.01, 64, figure="MB"),
    Target("C8", TOP_K, FLOOR, 1.5),
    Target("C8", TOP_K, TORCH, 1 / 2.1, 64),
    Target("C8", TOP_K, TORCH, 0.02, 64, 16384, figure="MB"),
    Target("C8", TOP_K_LABELS, FLOOR, 1.5),
    Target("C8", TOP_K_LABELS, TORCH, 1 / 2.8, 64),
    Target("C9", HYCON, hycon.ANCHOR_LOOP, 1 / 20, None, 128, 128),
    Target("C9", HYCON, hycon.PAIR_LOOP, 1 / 1000, None, 128, 128),
    Target("C9", HYCON, hycon.MASKS, 1 / 200, None, 8192, 8192),
    Target("C9", HYCON, ABSOLUTE, 400, None, 65536, 65536),
    Target("C9", HYCON, ABSOLUTE, 256, None, 65536, 65536, "MB"),
    *(Target("C11", loss, TORCH, 1.0, None, 1, 256) for loss in SMALL),
    Target("C11", SYMMETRIC, METRIC_LEARNING, 1 / 200, None, 1, 256),
    Target("C12", SYMMETRIC, FLOOR, 1.15, 512, LARGE, 8192, case=PLAIN),
    *(Target("C14", loss, OURS, 1.05, case=OURS_COMPILED) for loss in compiled.LOSSES),
    Target("C15", SYMMETRIC, TORCH_COMPILED, 0.7, 64, LARGE, LARGE, case=OURS_COMPILED),
    *(
        Target("C16", loss, OURS, 1.1, None, 16384, figure="MB", case=OURS_COMPILED)
        for loss in compiled.LOSSES
    ),
    *(
        Target("C17", loss, ABSOLUTE, 2, figure="compilations", case=OURS_COMPILED)
        for loss in compiled.LOSSES
    ),
    Target("C18", SYMMETRIC, TORCH_COMPILED, 1.0, figure="s", case=OURS_COMPILED),
    *(
        Target("C19", LOSSES[x.loss], BEFORE, NOISE, least=1, case=x.name)
        for x in cases.CASES
        if x.name in cases.OWN
    ),
    Target("C20", RANKED, rank_contrast.COLUMN_LOOP, 1 / 70, None, 2048, 2048),
    Target("C20", RANKED, ABSOLUTE, 500, None, 8192, 8192, "MB"),
    Target("C24", RETRIEVAL, TORCH, 0.5, 64, 20000, 20000),
    Target("C24", RETRIEVAL, TORCH, 0.02, 64, 20000, 20000, "MB"),
    Target("C21", OWN_NEGATIVES, own_negatives.EINSUM, 1.0, 384, 1024, 1024),
    Target("C21", OWN_NEGATIVES, own_negatives.EINSUM, 0.5, 384, 1024, 1024, "MB"),
    *(
        Target("C22", loss, OURS, 1.1, 64, LARGE, LARGE, case=case)
        for loss in (SYMMETRIC, ONE_WAY)
        for case in cases.VARIANTS
    ),
    Target("C23", SHUFFLED, SYMILE, 1.0, None, 1024, 1024),
    Target("C23", VOLUMES, joint.DETERMINANTS, 0.3, None, 1024, 1024),
    Target("C23", VOLUMES, joint.DETERMINANTS, 0.3, None, 1024, 1024, "MB"),
    *(
        Target("C24", loss, OURS, most, None, LARGE, LARGE, figure, case=case)
        for loss in (SYMMETRIC, ONE_WAY)
        for case in (cases.BY_ID, cases.COPIES)
        for figure, most in (("ms", 1.3), ("MB", 1.1))
    ),
]


@dataclass(frozen=True)
class Verdict:
    target: Target
    n: int
    d: int
    ours: float
    other: float

    @property
    def ratio(self) -> float:
        return self.ours / self.other

    @property
    def met(self) -> bool:
        return self.ratio <= self.target.most

    def line(self) -> str:
        t = self.target
        word = "met    " if self.met else "NOT MET"
        where = f"{t.name} {word} {t.title}, N={self.n}, d={self.d}:"
        if t.against == ABSOLUTE:
            return f"{where} {self.ours:.4g} {t.figure}, at most {t.most:g}"
        figures = f"{self.ours:.4g} {t.figure} / {self.other:.4g} of {t.against}"
        return f"{where} {figures} = {self.ratio:.4g}, at most {t.most:.4g}"


def verdicts(results: Iterable[dict]) -> list[Verdict]:
    """The targets that the results allow to judge."""
    found = {(r["loss"], r["case"], r["n"], r["d"]): r for r in results}
    judged = []
    for target in TARGETS:
        for (loss, case, n, d), ours in found.items():
            if (loss, case) != (target.loss.name, target.case) or not target.fits(n, d):
                continue
            other = found.get((loss, target.against, n, d), {}).get(target.figure)
            if target.against == FLOOR:
                other = ours.get("floor_ms")
            elif target.against == ROWS:
                other = 16 * n * d / 2**20 + 4
            elif target.against == ABSOLUTE:
                other = 1.0
            elif target.against == BEFORE:
                other = ours.get("before_ms")
            if other is not None and ours.get(target.figure) is not None:
                judged.append(Verdict(target, n, d, ours[target.figure], other))
    return judged


def of_a_run(found: dict) -> list[Verdict]:
    """The verdicts of all that a run has measured."""
    return [verdict for part in PARTS for verdict in verdicts(found.get(part, []))]
