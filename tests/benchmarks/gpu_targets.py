"""What was set out to be reached on a GPU, as ratios of two figures of one run."""

import torch

from tests.benchmarks import cases
from tests.benchmarks.cases import OURS, SYMMETRIC, Loss
from tests.benchmarks.measure import MB
from tests.benchmarks.peers import OPEN_CLIP
from tests.benchmarks.targets import FLOOR, Target, Verdict

DTYPES = {"ieee": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
LOSSES = {kind: Loss(f"{SYMMETRIC.name}, {kind}", cases.pair) for kind in DTYPES}
TOP_K = {
    kind: Loss(f"{cases.TOP_K.name}, {kind}", cases.pair, 1, gradient=False) for kind in DTYPES
}
INF_CL = "Inf-CL"
MEMEFF = "memeff"
ROWS = "4 N d floats + 64 MB"
MATRIX = "one N x N matrix"
LARGE = 32768
TARGETS = [
    *(Target("G1", LOSSES[kind], FLOOR, 2.5, 512, LARGE) for kind in DTYPES),
    Target("G1", LOSSES["bf16"], FLOOR, 2.5, 256, LARGE),
    Target("G1", LOSSES["bf16"], OPEN_CLIP, 1 / 8, 64, LARGE, LARGE),
    Target("G1", LOSSES["bf16"], OPEN_CLIP, 1 / 2.5, 512, LARGE, LARGE),
    *(Target("G2", loss, ROWS, 1.0, None, LARGE, figure="MB") for loss in LOSSES.values()),
    *(Target("G3", loss, INF_CL, 1 / 2, None, LARGE) for loss in LOSSES.values()),
    *(Target("G5", TOP_K[kind], FLOOR, 1.5, None, LARGE) for kind in ("tf32", "ieee")),
    *(
        Target("G5", TOP_K[kind], MATRIX, 0.1, None, LARGE, figure="MB")
        for kind in ("tf32", "ieee")
    ),
    *(Target("G6", LOSSES["bf16"], MEMEFF, 1.0, d, LARGE) for d in (384, 512, 768, 1024)),
]
ELSEWHERE = ["G4 NOT JUDGED: the slices of several ranks take several GPUs"]


def verdicts(results: list[dict]) -> list[Verdict]:
    """The targets that the results allow to judge."""
    found = {(r["loss"], r["case"], r["n"], r["d"]): r for r in results}
    judged = []
    for target in TARGETS:
        for (loss, case, n, d), own in found.items():
            if (loss, case) != (target.loss.name, OURS) or not target.fits(n, d):
                continue
            if target.against == FLOOR:
                other = own["floor_ms"]
            elif target.against == ROWS:
                other = 16 * n * d / MB + 64
            elif target.against == MATRIX:
                other = 4 * n * n / MB
            else:
                other = found.get((loss, target.against, n, d), {}).get(target.figure)
            if other is not None:
                judged.append(Verdict(target, n, d, own[target.figure], other))
    return judged


def lines(results: list[dict]) -> list[str]:
    """A line for each verdict, and one for each target that nothing here could be judged by."""
    judged = verdicts(results)
    missing = [
        f"{t.name} NOT JUDGED {t.loss.name}, N={t.least}{f', d={t.d}' if t.d else ''}: "
        f"no {t.figure} of it or of {t.against}"
        for t in TARGETS
        if all(verdict.target is not t for verdict in judged)
    ]
    return [*(verdict.line() for verdict in judged), *missing, *ELSEWHERE]
