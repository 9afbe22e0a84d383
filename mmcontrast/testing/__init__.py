"""The laws that contrastive losses obey, as a suite for anybody's loss. Needs hypothesis.

``check_contrastive_loss(my_loss, symmetric=True)`` in a test, ``parametrize_with_checks`` for one
pytest test a law, and ``python -m mmcontrast.testing my_package.losses:MyLoss --symmetric``.
"""

from mmcontrast.testing import _needs as _needs
from mmcontrast.testing.parametrize import parametrize_with_checks
from mmcontrast.testing.registry import CHECKS, Check
from mmcontrast.testing.report import CheckReport, CheckResult, LawsBroken
from mmcontrast.testing.running import LossCheck
from mmcontrast.testing.strategies import (
    labelled_embeddings,
    masks,
    modal_batches,
    paired_embeddings,
    temperatures,
)
from mmcontrast.testing.subject import LawBroken
from mmcontrast.testing.suite import (
    check_contrastive_loss,
    iter_checks,
    replay,
)
from mmcontrast.testing.traits import Traits
from mmcontrast.testing.vary import Vary

__all__ = [
    "CHECKS",
    "Check",
    "CheckReport",
    "CheckResult",
    "LawBroken",
    "LawsBroken",
    "LossCheck",
    "Traits",
    "Vary",
    "check_contrastive_loss",
    "iter_checks",
    "labelled_embeddings",
    "masks",
    "modal_batches",
    "paired_embeddings",
    "parametrize_with_checks",
    "replay",
    "temperatures",
]
