"""A queue of embeddings from earlier batches, as further negatives."""

from collections.abc import Callable
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcontrast import arguments
from mmcontrast.eager import is_eager
from mmcontrast.loading import State, all_or_nothing, load_checked
from mmcontrast.masks import IGNORE
from mmcontrast.sharded import local_rows


class Extended(NamedTuple):
    """Candidates followed by an :class:`EmbeddingQueue`.

    Fields:
        candidates: (C + size, D).
        keep: (rows, C + size) bool: not the places that are empty, or to be left out.
        labels: (C + size,) labels or ids; -100 for places that are empty or left out.
    """

    candidates: Tensor
    keep: Tensor
    labels: Tensor


class EmbeddingQueue(nn.Module):
    """The last embeddings of earlier batches, as further candidates for any loss.

    Only :meth:`push` fills it, never a loss, and its whole state is in ``state_dict``: a resumed
    run continues with the same queue. Its contents get no gradient. A state of another size or
    label dtype is refused as a whole; embeddings in a wider dtype widen the queue.

    Args:
        size: how many embeddings it holds; new ones replace the oldest.
        features: D.
        dtype: of the embeddings.
        label_dtype: int64 for classes and ids; a floating dtype for scores. ``half()`` and its
            relatives leave it as it is.

    Raises:
        ValueError: on a size or a number of features below 1, or another label dtype; in
            :meth:`push` and :meth:`extend`, on shapes that disagree, or labels that the label dtype
            cannot hold.

    Example:
        >>> from mmcontrast import info_nce
        >>> queue = EmbeddingQueue(4, features=2)
        >>> places = queue.push(torch.eye(2), torch.tensor([7, 8]))
        >>> queue.filled
        tensor([ True,  True, False, False])
        >>> anchors, partners = torch.eye(2), torch.eye(2)
        >>> candidates, keep = queue.extend(partners, rows=len(anchors))
        >>> info_nce(anchors, candidates, keep=keep, temperature=1.0)  # log(2 e + 2) - 1
        tensor(1.0064)

        With ids, what the queue still has of an anchor's own sample need not repel it:

        >>> from mmcontrast import different_id
        >>> ids = torch.tensor([7, 9])
        >>> found = queue.extend(partners, rows=2, labels=ids)
        >>> found.labels
        tensor([   7,    9,    7,    8, -100, -100])
        >>> keep = [found.keep, different_id(ids, found.labels)]
        >>> info_nce(anchors, found.candidates, keep=keep, temperature=1.0)
        tensor(0.7789)

    Note:
        With labels, it can be the ``candidates`` and ``candidate_labels`` of :func:`sup_con`: an
        empty place has the label -100. With scores (``label_dtype=torch.float32``) they are those
        of :func:`rank_n_contrast`; or ``score_kernel(scores, queue.labels, bandwidth=1)`` is the
        ``positives`` of :func:`sup_con`, and
        ``labelled(scores)[:, None] & labelled(queue.labels)`` its ``keep``. Push after the backward
        pass, or use a copy: the losses save the candidates for it.

    References: MoCo, arXiv:1911.05722; cross-batch memory, arXiv:1912.06798.
    """

    embeddings: Tensor
    labels: Tensor
    filled: Tensor
    position: Tensor

    load_state_dict = load_checked

    def __init__(
        self,
        size: int,
        features: int,
        *,
        dtype: torch.dtype = torch.float32,
        label_dtype: torch.dtype = torch.int64,
    ):
        super().__init__()
        size, features = arguments.whole("size", size), arguments.whole("features", features)
        arguments.floating_dtype("dtype", dtype)
        if label_dtype is not torch.int64:
            arguments.floating_dtype("label_dtype", label_dtype, also="torch.int64")
            if label_dtype.itemsize == 1:  # it rounds -100 to -96 or -104, a score
                arguments.fail("label_dtype", "a dtype that holds -100", label_dtype)
        self.register_buffer("embeddings", torch.zeros(size, features, dtype=dtype))
        self.register_buffer("labels", torch.full((size,), IGNORE, dtype=label_dtype))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        all_or_nothing(self, _refuse_position)

    @local_rows
    @torch.no_grad()
    def push(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """Replace the oldest entries by a batch, (B, D) with labels or ids (B,); -100 for none.

        Returns:
            (B,) int64, the place of each row in the queue. Of a batch larger than the queue, the
            last rows are kept, and the others have the place -1.
        """
        size = len(self.embeddings)
        arguments.matrix("embeddings", embeddings, like=self.embeddings)
        if labels is None:
            labels = self.labels.new_full((len(embeddings),), IGNORE)
        self._check_labels(labels, len(embeddings))
        dropped = len(embeddings) - size
        embeddings, labels = embeddings[-size:], labels[-size:]
        places = (self.position + torch.arange(len(labels), device=self.position.device)) % size
        self.embeddings[places] = embeddings.detach().to(self.embeddings.dtype)
        self.labels[places] = labels.to(self.labels.dtype)
        self.filled[places] = True
        self.position.copy_((self.position + len(labels)) % size)
        return places if dropped <= 0 else torch.cat([places.new_full((dropped,), -1), places])

    def _check_labels(self, labels: Tensor, number: int) -> None:
        """One label for each row, in a dtype that the labels' holds."""
        if not _holds(self.labels.dtype, arguments.tensor("labels", labels).dtype):
            kind = "scores" if labels.is_floating_point() else "classes"
            wanted = labels.dtype if labels.is_floating_point() else torch.int64
            advice = f"{self.labels.dtype} (for {kind} make the queue with label_dtype={wanted})"
            arguments.fail("labels", advice, labels.dtype)
        arguments.vector("labels", labels, number)

    @overload
    def extend(
        self, candidates: Tensor, *, rows: int, labels: None = None, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def extend(
        self, candidates: Tensor, *, rows: int, labels: Tensor, without: Tensor | None = None
    ) -> Extended: ...

    @local_rows
    def extend(
        self,
        candidates: Tensor,
        *,
        rows: int,
        labels: Tensor | None = None,
        without: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | Extended:
        """The candidates followed by the queue, and the mask of the filled places.

        Args:
            candidates: (C, D).
            rows: number of anchors.
            labels: (C,) labels or ids of the candidates, to be followed by those of the queue.
            without: places to be left out, as :meth:`push` returns them; -1 for none. A batch that
                was pushed before the loss does not meet itself in the queue then.

        Returns:
            (C + size, D) in the candidates' dtype, and the (rows, C + size) mask that a loss takes
            as ``keep``; with labels, these and the (C + size,) labels, as :class:`Extended`.
        """
        arguments.matrix("candidates", candidates, like=self.embeddings)
        rows = arguments.whole("rows", rows, least=0)
        filled = self.filled
        if without is not None:
            places = arguments.tensor("without", without).flatten()
            places = arguments.targets("without", places, len(places), len(filled), ignore=-1)
            beyond = torch.where(places < 0, len(filled), places)  # a place more, cut off again
            filled = F.pad(filled, (0, 1)).index_fill(0, beyond, False)[:-1]
        own = torch.ones(len(candidates), dtype=torch.bool, device=filled.device)
        keep = torch.cat([own, filled]).expand(rows, -1)
        every = torch.cat([candidates, self.embeddings.to(candidates.dtype)])
        if labels is None:
            return every, keep
        self._check_labels(labels, len(candidates))
        earlier = torch.where(filled, self.labels, IGNORE)
        return Extended(every, keep, torch.cat([labels.to(earlier.dtype), earlier]))

    @torch.no_grad()
    def clear(self) -> None:
        """Empty it."""
        self.embeddings.zero_()
        self.labels.fill_(IGNORE)
        self.filled.fill_(False)
        self.position.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Scores keep their dtype where :meth:`half` and its relatives would round them."""
        labels = self.labels
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's has no types
        if self.labels.dtype != labels.dtype:
            self.labels = labels.to(self.labels.device)
        return self

    def extra_repr(self) -> str:
        """Size and features."""
        return "size={}, features={}".format(*self.embeddings.shape)


def _holds(own: torch.dtype, given: torch.dtype) -> bool:
    """Whether labels keep their meaning: scores in a floating dtype as wide, integers in int64."""
    if own.is_floating_point:
        # Every float of one byte is one of any wider floating dtype; torch does not promote them.
        return given.is_floating_point and (
            given.itemsize == 1 or torch.promote_types(own, given) == own
        )
    return given == torch.bool or (
        not (given.is_floating_point or given.is_complex) and given != torch.uint64
    )


def _refuse_position(queue: nn.Module, state: State) -> None:
    """A place to write to that the queue does not have."""
    position, size = state.get("position"), queue.get_buffer("filled").numel()
    if position is not None and is_eager(position) and not 0 <= int(position) < size:
        arguments.fail("position", f"an index from 0 to {size - 1}", int(position))
