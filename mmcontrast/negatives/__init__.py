"""CorMulT's negative batches: samples whose modalities no longer belong together.

One strategy a file: ``swap`` (A), ``shift`` (B), ``noise`` (C) and their mix, ``mixed`` (D). Each
takes a batch and returns it with some modalities of each sample altered, and masks of
these (``batches``). Shapes are those of the batch, whatever was drawn.
"""
