"""Arrays with their SHA-256: read as they were written, or refused."""

import numpy as np
import pytest
import safetensors.numpy

from reference_models.running.sealed import digest_of, read_sealed, write_sealed

ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(0, dtype=np.float32)}


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "new" / "x.safetensors"
    digest = write_sealed(path, ARRAYS, "what it is")
    arrays, about, found = read_sealed(path)
    assert (about, found) == ("what it is", digest)
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert [file.name for file in path.parent.iterdir()] == ["x.safetensors"]


def test_a_digest_tells_names_shapes_types_and_values_apart():
    b = ARRAYS["b"]
    others = [{"c": b}, {"b": b.T}, {"b": b.reshape(3, 2)}, {"b": b.astype(np.float64)}, {"b": -b}]
    digests = {digest_of(each) for each in [{"b": b}, *others]}
    assert len(digests) == 6
    assert digest_of(ARRAYS) == digest_of(dict(reversed(ARRAYS.items())))


@pytest.mark.parametrize("size", [0, 7, 40, -1])
def test_a_half_written_file_is_never_taken_for_whole(tmp_path, size):
    path = tmp_path / "x.safetensors"
    write_sealed(path, ARRAYS, "")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x.safetensors: .* cut or changed .*delete it"):
        read_sealed(path)


def test_a_changed_value_and_a_file_without_a_seal_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_sealed(path, ARRAYS, "")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut or changed; delete it"):
        read_sealed(path)
    path.write_bytes(safetensors.numpy.save(ARRAYS))
    with pytest.raises(ValueError, match="cut or changed; delete it"):
        read_sealed(path)
