"""A test suite for contrastive losses, miners and distances: the laws they obey. Needs hypothesis.

Use ``check_contrastive_loss(my_loss, symmetric=True)``, ``check_miner(my_miner)`` or
``check_distance(my_distance)`` in a test, ``parametrize_with_checks`` for
one pytest test per law, or ``python -m mmcontrast.testing my_package.losses:MyLoss --symmetric``.

How a check runs::

    check_contrastive_loss, parametrize_with_checks, the command      suite, parametrize, __main__
    check_miner, check_distance                                       doors
      iter_checks: the laws in CHECKS that the Traits claim           registry, traits, checks/
        LossCheck.run: hypothesis draws and shrinks examples          running, strategies, draws
          Check: the law on one example, through a Subject            subject, batch, formula
                 what a miner or a distance returned                  mined, between
      proposal: the nearest known form, where infer=True asks for it  infer, departures
      CheckReport: the results, with the examples as code             report, causes, snippet
        its page, with their cosines as pictures                      document, matrix
"""

from mmcontrast.testing import requirement as requirement
from mmcontrast.testing.doors import check_distance, check_miner
from mmcontrast.testing.matrix import Similarities
from mmcontrast.testing.parametrize import parametrize_with_checks
from mmcontrast.testing.registry import CHECKS, Check
from mmcontrast.testing.report import CheckReport, CheckResult, Failure, LawsBroken
from mmcontrast.testing.running import LossCheck, replay
from mmcontrast.testing.strategies import (
    labelled_embeddings,
    masks,
    modal_batches,
    paired_embeddings,
    temperatures,
)
from mmcontrast.testing.subject import LawBroken
from mmcontrast.testing.suite import check_contrastive_loss, iter_checks
from mmcontrast.testing.traits import Traits
from mmcontrast.testing.vary import Vary

__all__ = [
    "CHECKS",
    "Check",
    "CheckReport",
    "CheckResult",
    "Failure",
    "LawBroken",
    "LawsBroken",
    "LossCheck",
    "Similarities",
    "Traits",
    "Vary",
    "check_contrastive_loss",
    "check_distance",
    "check_miner",
    "iter_checks",
    "labelled_embeddings",
    "masks",
    "modal_batches",
    "paired_embeddings",
    "parametrize_with_checks",
    "replay",
    "temperatures",
]
