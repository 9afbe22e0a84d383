"""What the site's pages of losses show out of data: formulas, equal calls, and costs by size."""

import inspect
from collections.abc import Callable
from functools import partial

import mmcontrast
from tests.benchmarks import cases
from tests.mmcontrast.peer_cases import CASES, TORCH
from tests.readme import speed
from tests.readme.losses import MODULES, formula
from tests.readme.tables import SPACE, code, table

FAMILIES = {
    "infonce": [
        "info_nce",
        "symmetric_info_nce",
        "anchored_info_nce",
        "matched_pair_nce",
        "n_pair",
    ],
    "sigmoid": ["sigmoid_contrast"],
    "supervised": ["sup_con"],
    "hybrid": [
        "hybrid_contrast",
        "intra_modal_contrast",
        "inter_modal_contrast",
        "semi_contrast",
        "ratio_contrast",
    ],
    "joint": ["joint_contrast"],
    "ranked": ["rank_n_contrast"],
    "triplets": ["triplet"],
    "correlation": ["modality_correlation_triplet"],
    "multilevel": ["multilevel_contrast"],
    "distillation": ["kl_distill", "pair_prediction"],
}
"""The losses of each page of ``notebooks/site/losses``."""
MEASURED = {
    "infonce": {cases.SYMMETRIC: 64, cases.ONE_WAY: 64},
    "sigmoid": {cases.SIGMOID: 64},
    "supervised": {cases.SUP_CON: 64, cases.NT_XENT: 64},
    "hybrid": {cases.HYCON: 50},
    "triplets": {cases.BATCH_HARD: 64, cases.TOP_K: 64},
}
"""The cases of ``make bench`` that a page shows, and the width of their rows."""


def formulas(family: str) -> str:
    """The first formula of each loss's docstring."""
    shown = []
    for name in FAMILIES[family]:
        module = MODULES.get(name.replace("_", ""))
        names = code(name) + (f", {code(module)}" if module else "")
        shown.append(f"{names}:\n\n```math\n{formula(name)}\n```")
    return "\n\n".join(shown)


def equal(family: str) -> str:
    """The calls of other libraries that give the same values and gradients."""
    found = [c for name in FAMILIES[family] for c in CASES if c.function == name]
    if not found:
        return "No library that the tests compare with has a loss with these values."
    rows = []
    for case in found:
        library = "torch" if case.library == TORCH else case.library
        rows.append([code(case.ours), library, code(case.theirs), case.differs])
    said = (
        "Each row is a test, in values and in gradients, with rows `x`, `y`, `z`, a temperature"
        " `t`, a bias `b` and a margin `m`. In float64 the two agree to rounding; the last column"
        " says what else is different."
    )
    return f"{said}\n\n{table(['ours', 'library', 'theirs', 'beyond that'], rows)}"


def costs(family: str) -> str:
    """Time and peak memory by the number of samples, of the stored run of ``make bench``."""
    shown = [
        "Measured with `make bench`, forward and backward, in one thread; see"
        " [benchmarks](../benchmarks.md) for the machine."
    ]
    for loss, d in MEASURED[family].items():
        results = [r for r in speed.stored()["results"] if (r["loss"], r["d"]) == (loss.name, d)]
        sizes = sorted({r["n"] for r in results})
        rows = []
        for name in dict.fromkeys(r["case"] for r in results):
            by_size = {r["n"]: r for r in results if r["case"] == name}
            rows.append([name, *(cell(by_size.get(n)) for n in sizes)])
        head = [f"{loss.name}, {d} features", *(f"N = {n}" for n in sizes)]
        shown.append(table(head, rows))
    return "\n\n".join(shown)


def sources(family: str) -> str:
    """The references of each loss's docstring."""
    rows = []
    for name in FAMILIES[family]:
        _, found, text = inspect.getdoc(getattr(mmcontrast, name)).partition("\nReferences: ")
        if found:
            rows.append(f"* {code(name)}: {' '.join(text.split())}")
    first = FAMILIES[family][0]
    return "\n".join([*rows, "", f'`mmcontrast.citation("{first}")` prints them as BibTeX.'])


def cell(result: dict | None) -> str:
    if result is None or result["ms"] is None:
        return "too large"
    memory = "" if result["MB"] is None else f", {speed.number(result['MB'])}{SPACE}MB"
    return f"{speed.number(result['ms'])}{SPACE}ms{memory}"


def parts() -> dict[str, Callable[[], str]]:
    makers = {"formulas": formulas, "equal": equal, "sources": sources}
    made = {f"{what}-{f}": partial(make, f) for what, make in makers.items() for f in FAMILIES}
    return made | {f"costs-{family}": partial(costs, family) for family in MEASURED}
