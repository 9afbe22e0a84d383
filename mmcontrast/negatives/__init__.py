"""CorMulT's negative batches: modalities swapped, shifted, noisy, or a mix of these."""
