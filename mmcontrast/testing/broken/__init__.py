"""Losses, miners and distances that are wrong on purpose, each with the law that catches it.

They test that the suite detects mistakes, and show what a broken law looks like.
"""

from collections.abc import Iterator

from mmcontrast.testing.broken.labelled import LABELLED
from mmcontrast.testing.broken.labelled_miners import LABELLED_MINERS
from mmcontrast.testing.broken.metrics import METRICS
from mmcontrast.testing.broken.miners import MINERS
from mmcontrast.testing.broken.mistake import Mistake
from mmcontrast.testing.broken.multimodal import MULTIMODAL
from mmcontrast.testing.broken.options import OPTIONS
from mmcontrast.testing.broken.paired import PAIRED
from mmcontrast.testing.broken.states import STATES
from mmcontrast.testing.broken.transforms import TRANSFORMS
from mmcontrast.testing.broken.triplets import TRIPLETS

MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in (
        *(*PAIRED, *OPTIONS, *STATES, *TRANSFORMS, *LABELLED, *TRIPLETS, *MULTIMODAL),
        *(*MINERS, *LABELLED_MINERS, *METRICS),
    )
}

__all__ = ["MISTAKES", "Mistake", "markdown_table"]


def markdown_table() -> str:
    """Markdown: each broken loss, miner or distance, its mistake, and the law that catches it."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    from mmcontrast.testing.registry import CHECKS

    yield "| broken | kind | what is wrong | the law that catches it |"
    yield "|---|---|---|---|"
    for mistake in MISTAKES.values():
        law = CHECKS[mistake.law].law.replace("|", "\\|")
        yield (
            f"| `{mistake.name}` | {mistake.traits.kind} | {mistake.wrong} "
            f"| `{mistake.law}`: {law} |"
        )
