"""MCL-MCF's vectors and their fusion."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from reference_models.mcl_mcf.layered_fusion import ConvolutionFusion
from tests.reference_models.batches import (
    THREE,
)
from tests.reference_models.mcl_mcf.test_network import batch_of, network


def test_a_sequence_is_what_a_packed_one_ends_with():
    model, batch = network().double(), batch_of()
    for m in THREE:
        encoder, steps, mask = model.encoders[m], batch.features[m], batch.masks[m]
        packed = pack_padded_sequence(steps, mask.sum(1), batch_first=True, enforce_sorted=False)
        _, (state, _) = encoder.network(packed)
        garbage = steps.masked_fill(~mask.unsqueeze(-1), 7.0)
        torch.testing.assert_close(encoder(garbage, mask), encoder.layer(state[0]))


@pytest.mark.parametrize("shared", [False, True])
def test_the_fusion_equals_convolutions_of_width_one(shared):
    torch.manual_seed(5)
    sizes, width = {"text": 8, "audio": 6, "vision": 6}, 9
    fusion = ConvolutionFusion(sizes, 10, width if shared else None)

    def convolution(linear, x):
        layer = nn.Conv1d(linear.in_features, linear.out_features, 1)
        layer.weight.data, layer.bias.data = linear.weight.data[:, :, None], linear.bias.data
        return layer(x[:, :, None])[:, :, 0]

    h = {m: torch.randn(4, size) for m, size in sizes.items()}
    deep = maps = {m: torch.randn(4, width) for m in sizes}
    if not shared:
        deep = {m: convolution(fusion.deep[m], h[m]).relu() for m in sizes}
    shallow = convolution(fusion.shallow, torch.cat(list(h.values()), 1)).relu()
    expected = convolution(fusion.last, torch.cat([*deep.values(), shallow], 1))
    torch.testing.assert_close(fusion(h, maps), expected)
