"""A queue of embeddings from earlier batches, as further negatives."""

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.masks import IGNORE


class EmbeddingQueue(nn.Module):
    """The last embeddings of earlier batches, as further candidates for any loss.

    Only :meth:`push` fills it, never a loss, and its whole state is in ``state_dict``: a resumed
    run continues with the same queue. Its contents get no gradient.

    Args:
        size: how many embeddings it holds; new ones replace the oldest.
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
        With labels, it can be the ``candidates`` and ``candidate_labels`` of :func:`sup_con`: an
        empty place has the label -100. Push after the backward pass, or use a copy: the losses save
        the candidates for it.

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
        """Replace the oldest entries by a batch, (B, D) with labels or ids (B,); -100 for none.

        Of a batch larger than the queue, the last rows are kept.
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
        """The candidates (C, D) followed by the queue, and the mask of the filled ones.

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
