r"""The losses of large batches on a GPU: kernels in Triton instead of tiles of PyTorch operations.

Symmetric and one-way InfoNCE, the sigmoid loss and SupCon are fused: a tile of logits is made and
used in registers, and memory beside inputs and gradients is O(B + C). Nothing is read on the host
but SupCon's classes, and nothing is added up by atomics: the same input gives the same bits.

Rows come in mapped, in float32, and ``precision`` says how they are multiplied:

- ``"ieee"``: in float32. The default for float32 inputs.
- ``"tf32"``: rows and the logits' gradient are rounded to 11 bits in each product, on tensor cores.
  The default for float32 inputs where PyTorch's own products are set to it
  (``torch.set_float32_matmul_precision("high")``).
- ``"bf16"``, ``"fp16"``: rows are rounded once, to 8 or 11 bits, and the loss is that of the
  rounded rows. The default for inputs of that dtype.

Logits, sums and gradients are added up in float32 in all of them. What is rounded besides is each
entry of the logits' gradient before it is multiplied by the rows, to the same bits: by as much as
the gradient of inputs in that dtype is anyway. The positives' part of the gradient is not.

They are taken on GPUs of compute capability 8.0 (A100) and later. ``MMCONTRAST_KERNELS=0`` in the
environment turns them off. Triton is imported at the first call with CUDA tensors, where it is
installed, and never else.
"""

import torch
from torch import Tensor

from mmcontrast.exact.kernels.blocks import Blocks
from mmcontrast.exact.kernels.infonce_fused import one_way_fused, symmetric_fused
from mmcontrast.exact.kernels.launch import PRECISIONS
from mmcontrast.exact.kernels.sigmoid_fused import sigmoid_fused
from mmcontrast.exact.kernels.supcon_fused import sup_con_fused

__all__ = [
    "PRECISIONS",
    "Blocks",
    "one_way_fused",
    "precision",
    "rounded_to",
    "sigmoid_fused",
    "sup_con_fused",
    "symmetric_fused",
]


def rounded_to(*inputs: Tensor) -> str:
    """``"bf16"`` or ``"fp16"`` where all inputs, as they are given, are in it; else empty."""
    dtypes = {x.dtype for x in inputs}
    if dtypes == {torch.bfloat16}:
        return "bf16"
    return "fp16" if dtypes == {torch.float16} else ""


def precision(rounded: str) -> str:
    """The precision of the products of rows :func:`rounded_to` this; reads PyTorch's settings."""
    # What the older settings say, this one says too.
    tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return rounded or ("tf32" if tf32 else "ieee")
