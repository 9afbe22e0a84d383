"""Which way InfoNCE takes, by its size and over ranks."""

import pytest

import mmcontrast as mm
from mmcontrast.exact import infonce_choice
from tests.mmcontrast.exact.ways import FORMS, rows, sized, taken


@pytest.mark.parametrize(
    ("b", "c", "way"),
    [(4, 9, "one_way_at_once"), (4, 10, "one_way_in_blocks"), (1, 36, "one_way_at_once")],
)
def test_one_way_is_at_once_up_to_a_size_and_in_blocks_above(b, c, way):
    with sized(AT_ONCE=36, SPLIT=1000):
        assert taken(lambda: mm.info_nce(rows(b), rows(c, 2))) == [way]


@pytest.mark.parametrize(
    ("n", "way"),
    [(6, "symmetric_at_once"), (7, "symmetric_in_one_matrix")],
)
def test_symmetric_is_at_once_up_to_a_size_and_in_one_matrix_above(n, way):
    with sized(AT_ONCE=36, SPLIT=1000):
        assert taken(lambda: mm.symmetric_info_nce(rows(n), rows(n, 2))) == [way]


@pytest.mark.parametrize(
    ("n", "split", "way"),
    [
        (10, 100, "symmetric_in_one_matrix"),
        (11, 100, "symmetric_in_tiles"),
        (11, 122, "symmetric_in_one_matrix"),
        (11, 121, "symmetric_in_tiles"),
    ],
)
def test_symmetric_is_in_one_matrix_up_to_a_tile_and_in_tiles_above(n, split, way):
    """Below SPLIT logits, whatever the tile."""
    with sized(AT_ONCE=36, SPLIT=split, TILE=10, WIDE=(10, 10)):
        assert taken(lambda: mm.symmetric_info_nce(rows(n), rows(n, 2))) == [way]


@pytest.mark.parametrize(("chunk_size", "one_matrix"), [(6, False), (7, True), (8, True)])
def test_a_chunk_size_of_all_rows_is_no_chunk(chunk_size, one_matrix):
    with sized(AT_ONCE=36):
        found = taken(lambda: mm.symmetric_info_nce(rows(7), rows(7, 2), chunk_size=chunk_size))
    assert found == ["symmetric_in_one_matrix" if one_matrix else "symmetric_in_tiles"]


@pytest.mark.parametrize(("ring", "takes"), [(24, True), (25, False)])
@pytest.mark.parametrize("form", ["one way", "symmetric"])
def test_losses_ask_whether_a_ring_suits(form, ring, takes, monkeypatch):
    """Four rows of three numbers, and as many on another rank; nobody is asked for them."""

    class Ring(Exception):
        """It was taken."""

    def ring_of(*given):
        raise Ring

    monkeypatch.setattr(infonce_choice, "rank_sizes", lambda x, group: [4, 4])
    monkeypatch.setattr(infonce_choice, "info_nce_on_ring", ring_of)
    with sized(RING=ring, AT_ONCE=0):
        if takes:
            with pytest.raises(Ring):
                FORMS[form](rows(4), rows(4, 2))
        else:
            assert FORMS[form](rows(4), rows(4, 2)).isfinite()
