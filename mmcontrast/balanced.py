"""Batches in which every class, or bin of scores, has several samples."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from mmcontrast import arguments
from mmcontrast.dealing import (
    batches_with_all,
    batches_without_repeats,
    deal,
    fewest_in_a_batch,
    fill,
    level,
    spread,
)
from mmcontrast.masks import IGNORE, labelled

Values = Tensor | np.ndarray[Any, Any] | Sequence[Any]
"""One number or string for each sample."""

PATIENCE = 4
"""How many steps' worth of samples are passed over in the search for an id that is free."""


class BalancedBatchSampler(Sampler[list[int]]):
    """Batches in which each class, or bin of scores, has ``per_class`` samples or more.

    Losses with positives by class, such as :func:`sup_con` and :func:`hybrid_contrast`, need
    several samples of a class in a batch, and shuffled batches of many classes seldom have them. A
    batch here consists of batch_size / per_class groups, each of one class. Where there are as many
    classes, no two groups are of one class; else no class has more groups than are needed to fill
    the batch. Give it to a DataLoader as ``batch_sampler=``, and call :meth:`set_epoch` before each
    epoch.

    **What an epoch leaves out.** No sample is twice in an epoch, and every batch is full. So what
    makes no whole group of its class is left out, and no whole batch (no step of all ranks), and
    what much larger classes have more than can be balanced: of 1000 samples of one class and 100 of
    another, at most 100 of each are used. These are others in each epoch. Left out of all epochs
    are the samples in :attr:`left_out`: those without a label, and classes with fewer than
    per_class samples (or different ids). With ``repeat=True``, only these are left out: smaller
    classes are repeated, every sample comes once or more, and none twice in a batch.

    **Ranks.** All ranks draw the same sequence of batches, and rank r takes number r, r +
    world_size and so on: as many on each rank, each balanced by itself.

    Args:
        labels: (N,) the class of every sample of the data set, whole numbers or strings, as a
            tensor, an array or a list. -100 and NaN are no label.
        scores: (N,) real numbers instead of labels. NaN, infinity and -100 are no score.
        batch_size: number of samples in a batch of one rank, a multiple of per_class.
        per_class: number of samples in a group; 1 for one sample of each class.
        bins: number of classes that scores are divided into, by quantiles: a score with k of n
            below it and e equal to it (itself is one) is in bin floor(bins (k + e / 2) / n). So
            bins are of equal size, but for equal scores, which stay together.
        ids: (N,) numbers or strings: no id is twice in a batch, nor in the batches of all ranks in
            one step, where it would be a false negative (the captions of one image, say). -100 and
            NaN are no id. A batch that cannot be filled so is left out, also with ``repeat``, which
            then does not promise that every sample comes.
        repeat: whether to repeat samples of smaller classes.
        seed: of the order, together with the epoch; the same on every rank.
        rank, world_size: by default, those of the default process group, or one rank without it.
            For a loader that Accelerate prepares pass ``rank=0, world_size=1``: it shares out
            batches in the same way (but knows no steps, so an id may be on two ranks in one).
            Lightning needs ``use_distributed_sampler=False``.

    Raises:
        ValueError: on shapes or dtypes that disagree, labels with fractions, labels and scores both
            or neither given, a batch_size of fewer than two groups or that is no multiple of
            per_class, or too few samples for one balanced batch on every rank.

    Example:
        >>> sampler = BalancedBatchSampler([0, 0, 0, 1, 1, 2], batch_size=4)
        >>> [sorted(batch)[2:] for batch in sampler]  # two of class 0, and those of class 1
        [[3, 4]]
        >>> sampler.left_out
        tensor([5])

    Note:
        ``len`` is exact, and the same in each epoch. With ids it may differ from epoch to epoch: it
        is that of the epoch that is set, and costs as much as going through all its batches. To
        resume within an epoch, call :meth:`set_epoch` and skip batches, as Accelerate's
        ``skip_first_batches`` does; there is no other state.

        pytorch-metric-learning's ``MPerClassSampler`` draws classes anew for each batch, so that
        some samples come often in an epoch and others never. sentence-transformers'
        ``GroupByLabelBatchSampler`` has groups of two, and batches of the largest two classes only
        where the others have run out.
    """

    drop_last = True
    """No batch is smaller than the others. Accelerate asks for this."""

    def __init__(
        self,
        labels: Values | None = None,
        *,
        batch_size: int,
        scores: Values | None = None,
        per_class: int = 2,
        bins: int = 10,
        ids: Values | None = None,
        repeat: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        bins = arguments.whole("bins", bins, least=2)
        if (labels is None) == (scores is None):
            found = "neither" if labels is None else "both"
            arguments.fail("labels", "either labels or scores", found)
        name, given = ("scores", scores) if labels is None else ("labels", labels)
        values = _numbers(name, given)
        labels = _quantiles(values, bins) if labels is None else arguments.classes(name, values)
        arguments.flag("repeat", repeat)
        self.per_class = arguments.whole("per_class", per_class)
        self.batch_size = arguments.whole("batch_size", batch_size)
        self.width = self.batch_size // self.per_class
        if self.batch_size % self.per_class or self.width < 2:
            expected = f"a multiple of per_class={per_class}, and at least twice it"
            arguments.fail("batch_size", expected, batch_size)
        self.repeat = repeat
        self.seed = arguments.whole("seed", seed, least=0)
        self.epoch = 0
        started = dist.is_available() and dist.is_initialized()
        if world_size is None:
            world_size = dist.get_world_size() if started else 1
        if rank is None:
            rank = dist.get_rank() if started else 0
        self.world_size = arguments.whole("world_size", world_size)
        self.rank = arguments.whole("rank", rank, least=0)
        if self.rank >= self.world_size:
            arguments.fail("rank", f"an int below world_size={self.world_size}", rank)

        self._ids = None if ids is None else _codes(_numbers("ids", ids, len(values))).numpy()
        if self._ids is not None:
            alone = self._ids < 0  # without an id: each has one that no other has
            self._ids[alone] = self._ids.max(initial=0) + 1 + np.arange(alone.sum())
        classes = _codes(labels).numpy()
        classes = np.where(self._large(classes), classes, -1)
        self.left_out = torch.from_numpy(np.flatnonzero(classes < 0))
        self._samples = np.flatnonzero(classes >= 0)
        self._classes = np.unique(classes[self._samples], return_inverse=True)[1]
        self._plan(name)
        self._counted: tuple[int, int] | None = None  # an epoch and its length

    def _large(self, classes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(N,) bool: samples of classes that can make a group."""
        there = classes >= 0
        own = classes[there]
        if self._ids is None:
            sizes = np.bincount(own)
        else:
            factor = self._ids.max(initial=0) + 1
            sizes = np.bincount(np.unique(own * factor + self._ids[there]) // factor)
        there[there] = sizes[own] >= self.per_class
        return there

    def _plan(self, name: str) -> None:
        """The number of batches of all ranks, and of places for each class at least and at most."""
        sizes = np.bincount(self._classes)
        groups = sizes // self.per_class
        if len(groups) < 2 or groups.sum() < self.width:
            one = "one bin" if name == "scores" else "one class"
            apart = "" if self._ids is None else " and different ids"
            expected = (
                f"{self.width} groups of {self.per_class} samples of {one}{apart} for a batch of "
                f"{self.batch_size}, not all of {one}"
            )
            arguments.fail(name, expected, f"{groups.sum()} such groups, of {len(groups)}")
        fewest, ranks = fewest_in_a_batch(groups, self.width), self.world_size
        if self.repeat:
            most, self._low = np.minimum(groups, fewest), -(-sizes // self.per_class)
            batches = batches_with_all(self._low, self.width, most)
            self._batches = -(-batches // ranks) * ranks
            self._high = most * self._batches
        else:
            batches = batches_without_repeats(groups, self.width, fewest)
            self._batches = batches // ranks * ranks
            if not self._batches:
                arguments.fail(name, f"a batch for each of {ranks} ranks", f"{batches} batches")
            self._low = np.zeros_like(groups)
            self._high = np.minimum(groups, fewest * self._batches)

    def set_epoch(self, epoch: int) -> None:
        """Another order for each epoch; the same on all ranks."""
        self.epoch = arguments.whole("epoch", epoch, least=0)

    @property
    def sampler(self) -> "BalancedBatchSampler":
        """Itself: Accelerate and Lightning set the epoch of a batch sampler's sampler."""
        return self

    def __len__(self) -> int:
        if self._ids is None:
            return self._batches // self.world_size
        if self._counted is None or self._counted[0] != self.epoch:
            self._counted = self.epoch, sum(1 for _ in self)
        return self._counted[1]

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        ids = None if self._ids is None else self._ids[self._samples]
        order = spread(self._classes, ids, generator)
        samples = self._samples[order].tolist()
        ends = np.bincount(self._classes).cumsum().tolist()
        parts = [samples[a:b] for a, b in zip([0, *ends], ends, strict=False)]

        def again(c: int) -> list[int]:
            return [parts[c][k] for k in generator.permutation(len(parts[c]))]

        places = level(self._batches * self.width, self._low, self._high, generator)
        queues = [deque(part) for part in parts]
        known = range(self._samples[-1] + 1) if self._ids is None else self._ids.tolist()
        step: list[list[int]] = []
        used: set[int] = set()
        for classes in deal(places, self.width, generator).tolist():
            batch = fill(
                classes,
                queues,
                known,
                used,
                each=self.per_class,
                again=again if self.repeat else None,
                patience=PATIENCE * self.batch_size * self.world_size,
            )
            if not batch:
                continue
            step.append(batch)
            if len(step) == self.world_size:
                yield step[self.rank]
                step = []
            if not step or self._ids is None:  # repeated samples may be on two ranks in a step
                used.clear()


def _numbers(name: str, values: Any, size: int | None = None) -> Tensor:
    """(N,) numbers on the CPU; strings are numbered."""
    if not isinstance(values, Tensor):
        try:
            array = np.asarray(values)
        except (
            ValueError,
            TypeError,
            RuntimeError,
        ):  # lists of several lengths, odd tensors in one
            array = np.asarray(None)
        if array.dtype.kind in "US" or (
            array.dtype.kind == "O" and all(isinstance(x, str) for x in array.flat)
        ):
            array = np.unique(array, return_inverse=True)[1].reshape(array.shape)
        if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
            arguments.fail(name, "numbers or strings, one for each sample", arguments.shown(values))
        # A copy that torch takes: in this machine's order of bytes, forwards, and its own.
        values = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    arguments.tensor(name, values)
    if values.ndim != 1:
        arguments.fail(name, "shape (N,)", arguments.shape(values))
    arguments.vector(name, values, len(values) if size is None else size)
    found: Tensor = values.detach().cpu()
    return found


def _codes(values: Tensor) -> Tensor:
    """(N,) int64: numbers from 0 for what is equal, -1 for -100 and NaN."""
    there = labelled(values)
    codes = torch.full((len(values),), -1)
    codes[there] = torch.unique(values[there], return_inverse=True)[1]
    return codes


def _quantiles(scores: Tensor, bins: int) -> Tensor:
    """(N,) int64: the bin of each score; -100 for none."""
    scores = scores.double()
    there = scores.isfinite() & (scores != IGNORE)
    found = torch.full((len(scores),), IGNORE)
    _, inverse, counts = torch.unique(scores[there], return_inverse=True, return_counts=True)
    # By the middle of each run of equal scores, in whole numbers.
    twice = 2 * (counts.cumsum(0) - counts) + counts
    found[there] = (bins * twice // (2 * counts.sum()))[inverse]
    return found
