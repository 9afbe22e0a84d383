"""The result of a forward pass."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from mmcontrast import LossTerms
from reference_models.layers.output import Output


def test_an_output_is_what_it_was_made_of_and_stays_so():
    prediction, terms = torch.ones(2), LossTerms({"task": torch.tensor(1.0)})
    output = Output(prediction, terms, None)
    assert (output.prediction is prediction, output.terms is terms) == (True, True)
    with pytest.raises(FrozenInstanceError):
        output.fused = prediction
