"""open_clip: its ``ClipLoss`` and ``SigLipLoss`` with our losses inside, argument for argument.

They take what open_clip's models return and its training loop passes on: features that are already
normalised, a ``logit_scale`` that is already exponentiated. Nothing of the library is needed::

    loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)
    loss(**model(images, texts), output_dict=True)["contrastive_loss"]

What is the same and what is not:

* On one rank values and gradients are open_clip's, computed in at least float32 whatever the
  autocast, in tiles where the batch is large.
* On several ranks they are open_clip's with ``gather_with_grad=True``, on every rank. Its default
  of False drops gradients: with ``local_loss`` those of the other ranks' losses, without it all but
  1 / world_size of the features' own. That is not reproduced.
* Ranks may have batches of different sizes; ``local_loss`` and SigLIP then weigh ranks equally, as
  a mean over each rank's own pairs does, and ``ClipLoss()`` weighs pairs equally.
"""

import torch.distributed as dist
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.rows import exact_number
from mmcontrast.sigmoid import sigmoid_contrast
from mmcontrast.symmetric import symmetric_info_nce

__all__ = ["ClipLoss", "SigLipLoss"]


class ClipLoss(nn.Module):
    """:func:`mmcontrast.symmetric_info_nce` in the place of ``open_clip.ClipLoss``.

    Args:
        local_loss: on several ranks, return the mean over this rank's pairs and not over all of
            them; the gradients are the same after the mean over ranks.
        gather_with_grad: without effect: gradients reach every rank's features.
        cache_labels: without effect: there are no labels to cache.
        rank: without effect: taken from the process group.
        world_size: above 1, the candidates are the features of all ranks of the default group.
        use_horovod: not supported.

    Raises:
        ValueError: on Horovod; when called, on a world_size that is not the process group's.

    Example:
        >>> import torch
        >>> ClipLoss()(torch.eye(3), torch.eye(3), 1.0)
        tensor(0.5514)
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ):
        super().__init__()
        if use_horovod:
            arguments.fail("use_horovod", "False, for torch.distributed alone is supported", True)
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.use_horovod = use_horovod

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """The loss, or ``{"contrastive_loss": loss}``.

        Args:
            image_features: (B, D) unit rows.
            text_features: (B, D) unit rows.
            logit_scale: 1 / temperature.
            logit_bias: added to all logits, which leaves the softmax unchanged: its gradient is
                zero.
            output_dict: return the loss by name.
        """
        several = _several(self.world_size)
        temperature = 1 / _number("logit_scale", logit_scale)
        local = self.local_loss and several is not None
        loss = symmetric_info_nce(
            image_features,
            text_features,
            temperature=temperature,
            normalize=None,
            reduction="none" if local else "mean",
            group=several,
        )
        loss = _mean(loss) if local else loss
        if isinstance(logit_bias, Tensor):
            loss = loss + 0 * logit_bias.sum()  # a gradient of zero, not None, which DDP needs
        return {"contrastive_loss": loss} if output_dict else loss


class SigLipLoss(nn.Module):
    """:func:`mmcontrast.sigmoid_contrast` in the place of ``open_clip.SigLipLoss``.

    Args:
        cache_labels: without effect: there are no labels to cache.
        rank: without effect: taken from the process group.
        world_size: above 1, the candidates are the texts of all ranks of the default group.
        dist_impl: without effect: ``"bidir"``, ``"shift"``, ``"reduce"``, ``"gather"`` or None,
            open_clip's ways to the same sum.
        chunk_size: side of the tiles of logits, as in :func:`mmcontrast.sigmoid_contrast`; 0 for
            what is chosen there. The loss is the same. (Releases of open_clip up to 3.3 lack it.)

    Raises:
        ValueError: on another dist_impl, or a negative chunk_size; when called, on a world_size
            that is not the process group's.

    Example:
        >>> import torch
        >>> SigLipLoss()(torch.eye(2), torch.eye(2), 1.0, 0.0)
        tensor(1.0064)
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
    ):
        super().__init__()
        if chunk_size != 0:
            arguments.whole("chunk_size", chunk_size)
        arguments.one_of("dist_impl", dist_impl, (None, "bidir", "shift", "reduce", "gather"))
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl
        self.chunk_size = chunk_size

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """The mean over this rank's images of the sum over all texts.

        Args:
            image_features: (B, D) unit rows.
            text_features: (B, D) unit rows.
            logit_scale: 1 / temperature.
            logit_bias: added to all logits; None for none.
            output_dict: return the loss by name, ``{"contrastive_loss": loss}``.
        """
        several = _several(self.world_size)
        loss = sigmoid_contrast(
            image_features,
            text_features,
            temperature=1 / _number("logit_scale", logit_scale),
            bias=0.0 if logit_bias is None else _number("logit_bias", logit_bias),
            normalize=None,
            reduction="mean" if several is None else "none",
            chunk_size=self.chunk_size or None,
            group=several,
        )
        loss = loss if several is None else _mean(loss)
        return {"contrastive_loss": loss} if output_dict else loss


def _number(name: str, value: float | Tensor) -> float | Tensor:
    """A number; of a tensor of shape () or (1,), as models hold either, a 0-d one in float32."""
    return exact_number(arguments.number_or_scalar(name, value))


def _mean(losses: Tensor) -> Tensor:
    """The mean, 0 for an empty batch."""
    return losses.sum() / max(len(losses), 1)


def _several(world_size: int) -> Group | None:
    """The default group, which must have the size that the caller passes; None for one rank."""
    if world_size == 1:
        return None
    found = dist.get_world_size() if dist.is_available() and dist.is_initialized() else None
    if found != world_size:
        arguments.fail("world_size", f"the default process group's, {found}", world_size)
    return "world"
