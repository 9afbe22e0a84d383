"""The record of masks: who has a positive that takes part."""

import torch

from mmcontrast.exact.partners import Partners


def test_a_record_of_masks_counts_who_has_a_positive():
    positives = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()
    keep = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]]).bool()
    columns = torch.tensor([True, True, False])

    def counted(*given):
        """In blocks, and in one piece."""
        found = [Partners(*given).counted(torch.float32, 3, step).tolist() for step in (3, None)]
        assert found[0] == found[1]
        return found[0]

    assert counted(positives) == [True] * 4
    assert counted(positives, None, keep) == [True, False, True, True]
    assert counted(positives, None, keep, columns) == [True, False, False, True]
    soft = positives[[3, 0, 1]].double() * 1e-9
    assert counted(soft, None, keep[[1, 1, 2]]) == [True, True, True]
    assert counted(soft, None, keep[[1, 1, 2]], None, 0) == [False, True, True]
    assert counted(soft * 1e-40) == [False] * 3  # in float32
    assert counted(torch.tensor([3.0, 4, 5, 3]), torch.tensor([3.0, 3, 4])) == [
        *(True, True, False, True)
    ]


def test_classes_of_several_columns_are_alike_where_all_columns_are():
    anchors, candidates = torch.tensor([[0, 1], [0, 0]]), torch.tensor([[0, 1], [1, 1], [0, 0]])
    positives, others = Partners(anchors, candidates).masks(slice(0, 2))
    assert positives.tolist() == [[True, False, False], [False, False, True]]
    assert others is None


def test_a_blocks_memory_is_laid_out_like_the_mask():
    mask = torch.ones(4, 6, dtype=torch.bool)
    assert Partners(mask).room(torch.float32, 6, 3).stride() == (6, 1)
    assert Partners(mask.mT).room(torch.float32, 4, 3).stride() == (1, 3)
