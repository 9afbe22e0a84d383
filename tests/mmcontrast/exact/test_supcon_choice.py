"""Which way SupCon takes, by its size and over ranks."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import supcon_choice
from mmcontrast.reductions import Reduction
from tests.mmcontrast.exact.ways import rows, sized, taken
from tests.mmcontrast.strategies import close, labels


@pytest.mark.parametrize(("n", "way"), [(6, "sup_con_at_once"), (7, "sup_con_in_tiles")])
def test_sup_con_is_at_once_up_to_a_tile_and_in_tiles_above(n, way):
    with sized(SUPCON_SIDE={"cpu": 6, "other": 1}):
        assert taken(lambda: mm.sup_con(rows(n), labels(1, n))) == [way]
    with sized(SUPCON_SIDE={"cpu": 1, "other": 1}):
        assert taken(lambda: mm.sup_con(rows(n), labels(1, n), chunk_size=6)) == [way]


@pytest.mark.parametrize(("ranks", "suits"), [(3, True), (2, False)])
def test_sup_con_of_too_many_ranks_goes_by_blocks(ranks, suits):
    """Six rows, two of them this rank's: three ranks."""
    x, ids = rows(6), torch.tensor([0, 0, 1, 1, 0, 1])
    reduction = Reduction("none")
    settings = {"temperature": 0.5, "normalize": None, "reduction": reduction}
    with sized(SUPCON_RANKS={"cpu": ranks, "other": 99}):
        found = supcon_choice.sup_con_among_themselves(x, ids, slice(2, 4), 4, **settings)
    if suits:
        whole = mm.sup_con(x, ids, temperature=0.5, normalize=None, reduction="none")
        close(found, whole[2:4])
    else:
        assert found is None


@pytest.mark.parametrize("normalize", [None, mm.l2_normalize])
@pytest.mark.parametrize(("side", "ranks"), [(6, 1), (2, 1), (2, 0)])  # at once, tiles, blocks
def test_a_compiled_row_without_a_label_may_hold_nan(normalize, side, ranks):
    x, ids = rows(6), torch.tensor([0, 0, 1, -100, 0, 1])
    x[3] = torch.nan
    x.requires_grad_()

    def value_and_gradient(loss):
        value = loss(x, ids, temperature=0.5, normalize=normalize, chunk_size=side)
        return value, torch.autograd.grad(value, x)[0]

    compiled = torch.compile(mm.sup_con, backend="aot_eager", fullgraph=True)
    expected = value_and_gradient(mm.sup_con)
    assert expected[1].isfinite().all()
    with sized(SUPCON_RANKS={"cpu": ranks, "other": ranks}):
        for found, eager in zip(value_and_gradient(compiled), expected, strict=True):
            close(found, eager)
