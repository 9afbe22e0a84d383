"""CorMulT's negative batches: samples whose modalities no longer belong together.

One strategy a file: ``swap`` (A), ``shift`` (B), ``noise`` (C) and their mix, ``mixed`` (D). Each
takes a batch and returns it with some modalities of each sample altered, and masks of
these (``batches``). Shapes are those of the batch, whatever was drawn.
"""

from mmcontrast.negatives.batches import Negatives
from mmcontrast.negatives.mixed import mixed_negatives
from mmcontrast.negatives.noise import add_noise, replace_tokens
from mmcontrast.negatives.shift import shift
from mmcontrast.negatives.swap import swap

__all__ = ["Negatives", "add_noise", "mixed_negatives", "replace_tokens", "shift", "swap"]
