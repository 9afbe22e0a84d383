"""Encoders, a loss of what they make, and encoding in pieces."""

import torch
from torch import nn

import mmcontrast as mm


def tower(seed, features=3, dropout=0.0):
    torch.manual_seed(seed)
    layers = [nn.Linear(features, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 4)]
    return nn.Sequential(*layers).double()


def pair_loss(features, temperature=0.3):
    return mm.symmetric_info_nce(*features.values(), temperature=temperature)


def gradients(*modules):
    """All gradients, cleared away."""
    found = [x.grad for module in modules for x in module.parameters()]
    for module in modules:
        module.zero_grad()
    return found


def same(found, expected, atol=1e-12):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=atol, atol=atol)


def in_pieces(encoders, inputs, size):
    """The representations with their whole graph, encoded by micro-batch."""
    return {
        name: torch.cat([encoder(part) for part in inputs[name].split(size)])
        for name, encoder in encoders.items()
    }
