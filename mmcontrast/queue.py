"""Negatives from earlier batches, kept in a queue."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.masks import IGNORE


class EmbeddingQueue(nn.Module):
    """The last embeddings of earlier batches, as further candidates for any loss.

    It is filled by :meth:`push` alone, never by a loss, and all that it knows is in ``state_dict``:
    a run that resumes goes on with the same queue. No gradient reaches what is in it.

    Args:
        size: how many embeddings it holds; the oldest go first.
        features: D.
        dtype: of the embeddings.

    Raises:
        ValueError: on a size or a number of features below 1; in :meth:`push`, on shapes or dtypes
            that disagree.

    Example:
        >>> from mmcontrast import info_nce
        >>> queue = EmbeddingQueue(4, features=2)
        >>> queue.push(torch.eye(2), torch.tensor([7, 8]))
        >>> queue.filled
        tensor([ True,  True, False, False])
        >>> anchors, partners = torch.eye(2), torch.eye(2)
        >>> candidates, keep = queue.extend(partners, rows=len(anchors))
        >>> info_nce(anchors, candidates, keep=keep, temperature=1.0)  # log(2 e + 2) - 1
        tensor(1.0064)

    Note:
        With labels it serves :func:`sup_con` as ``candidates`` and ``candidate_labels``: an empty
        place has the label -100. Push after the backward pass, or use a copy: the losses keep
        what they need of it.

    References: MoCo, arXiv:1911.05722; cross-batch memory, arXiv:1912.06798.
    """

    embeddings: Tensor
    labels: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, size: int, features: int, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        arguments.whole("size", size)
        arguments.whole("features", features)
        self.register_buffer("embeddings", torch.zeros(size, features, dtype=dtype))
        self.register_buffer("labels", torch.full((size,), IGNORE))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        """Put a batch in the place of the oldest, (B, D) with labels or ids (B,); -100 for none.

        Of a batch larger than the queue its last rows stay.
        """
        size = len(self.embeddings)
        arguments.matrix("embeddings", embeddings, like=self.embeddings)
        if labels is None:
            labels = torch.full((len(embeddings),), IGNORE, device=embeddings.device)
        arguments.vector("labels", labels, len(embeddings))
        embeddings, labels = embeddings[-size:], labels[-size:]
        places = (self.position + torch.arange(len(labels), device=self.position.device)) % size
        self.embeddings[places] = embeddings.detach().to(self.embeddings.dtype)
        self.labels[places] = labels.to(self.labels.dtype)
        self.filled[places] = True
        self.position.copy_((self.position + len(labels)) % size)

    def extend(self, candidates: Tensor, *, rows: int) -> tuple[Tensor, Tensor]:
        """The candidates (C, D) with the queue behind them, and who of both is there.

        Returns:
            (C + size, D) in the candidates' dtype, and the (rows, C + size) mask that a loss takes
            as ``keep``.
        """
        arguments.matrix("candidates", candidates, like=self.embeddings)
        own = torch.ones(len(candidates), dtype=torch.bool, device=self.filled.device)
        keep = torch.cat([own, self.filled]).expand(rows, -1)
        return torch.cat([candidates, self.embeddings.to(candidates.dtype)]), keep

    @torch.no_grad()
    def clear(self) -> None:
        """Empty it."""
        self.embeddings.zero_()
        self.labels.fill_(IGNORE)
        self.filled.fill_(False)
        self.position.zero_()

    def extra_repr(self) -> str:
        """Size and features."""
        return "size={}, features={}".format(*self.embeddings.shape)
