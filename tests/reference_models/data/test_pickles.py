"""A pickle is a program: the tests here write hostile ones, and see that they never run."""

import copyreg
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reference_models.data.pickles import DataError, load_pickle
from tests.reference_models.files import write


def honest() -> dict:
    random = np.random.default_rng(0)
    shared = [1, 2]
    return {
        "float32": random.normal(size=(2, 3)).astype(np.float32),
        "fortran": np.asfortranarray(random.normal(size=(3, 4, 2))),
        "transposed": random.normal(size=(2, 3, 4)).transpose(1, 0, 2),
        "strided": random.normal(size=(6, 4))[::2, ::-1],
        "big endian": np.arange(5, dtype=">i2"),
        "bool": np.array([True, False]),
        "unsigned": np.array([250, 3], dtype=np.uint8),
        "half": np.array([0.5], dtype=np.float16),
        "text": np.array(["ab", "c", "ünï"]),
        "big endian text": np.array(["ab", "ü"], dtype=">U2"),
        "byte text": np.array([b"ab", b"c"]),
        "objects": np.array(["x", None, 3, 2.5], dtype=object).reshape(2, 2),
        "nested": [np.arange(3), {"deep": (np.ones((1, 2)), [np.zeros(0)])}],
        "no rows": np.zeros((0, 3), dtype=np.float32),
        "no dimensions": np.array(2.5),
        "scalar": np.float32(1.5),
        "text scalar": np.str_("hi"),
        "empty text scalar": np.str_(""),
        "plain": ["a", b"b", b"", b"\xff\x00", 1, -(2**70), 2.5, True, None, (), {3, 4}],
        "frozen": frozenset({1}),
        "shared": [shared, shared],
        1: {"2": {}},
    }


def same(a: object, b: object) -> bool:
    """``a`` has the type and the value of ``b``, all the way down, in native byte order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype.newbyteorder("=") and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_honest_content_comes_back_at_every_protocol(tmp_path, protocol):
    path = write(tmp_path / "x.pkl", honest(), protocol)
    loaded = load_pickle(path)
    assert same(loaded, pickle.loads(path.read_bytes()))
    assert loaded["shared"][0] is loaded["shared"][1]


def test_names_of_numpy_1_are_known(tmp_path):
    data = pickle.dumps(honest(), protocol=2)
    assert data.count(b"numpy._core.") >= 2
    path = tmp_path / "x.pkl"
    path.write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
    assert same(load_pickle(path), pickle.loads(data))


def test_object_arrays_keep_items_that_are_lists(tmp_path):
    array = np.empty(2, dtype=object)
    array[0], array[1] = [1, 2], np.arange(2)
    loaded = load_pickle(write(tmp_path / "x.pkl", array))
    assert loaded.shape == (2,)
    assert loaded[0] == [1, 2]
    assert np.array_equal(loaded[1], np.arange(2))


def test_a_file_of_python_2(tmp_path):
    numbers = np.array([1.5, -2.25, 1e300])
    path = tmp_path / "x.pkl"
    path.write_bytes(
        b"\x80\x02}(U\x04nameU\x03a\xe9bU\x05arraycnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
        + bytes([numbers.nbytes])
        + numbers.tobytes()
        + b"tbu."
    )
    loaded = load_pickle(path)
    assert loaded["name"] == "a\xe9b"
    assert np.array_equal(loaded["array"], numbers)
    assert same(loaded, pickle.loads(path.read_bytes(), encoding="latin1"))


def named(module: str, name: str) -> bytes:
    """Opcodes that put ``module.name`` on the stack; dots in ``name`` go down attributes."""
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    return words + b"\x93"


def packed(value: object) -> bytes:
    """Opcodes that put ``value`` on the stack: its pickle without header and STOP."""
    return pickle.dumps(value, protocol=3)[2:-1]


def call(module: str, name: str, *arguments: object) -> bytes:
    return b"\x80\x04" + named(module, name) + packed(arguments) + b"R."


def call_by_line(module: str, name: str, *arguments: object) -> bytes:
    """The same with the GLOBAL opcode of the old protocols."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + packed(arguments) + b"R."


def instance_by_line(module: str, name: str, argument: str) -> bytes:
    """The same with the INST opcode of protocol 0."""
    return b"(V" + argument.encode() + b"\ni" + f"{module}\n{name}\n.".encode()


def python(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def shell(marker: Path) -> str:
    return f"echo > {marker}"


ATTACKS = [
    ("os.system", lambda m: call("os", "system", shell(m))),
    ("os.system", lambda m: call_by_line("os", "system", shell(m))),
    ("os.system", lambda m: instance_by_line("os", "system", shell(m))),
    ("posix.system", lambda m: call("posix", "system", shell(m))),
    ("subprocess.getoutput", lambda m: call("subprocess", "getoutput", shell(m))),
    ("subprocess.check_call", lambda m: call("subprocess", "check_call", ["touch", str(m)])),
    ("builtins.eval", lambda m: call("builtins", "eval", python(m))),
    ("builtins.exec", lambda m: call("builtins", "exec", python(m))),
    ("__builtin__.eval", lambda m: call_by_line("__builtin__", "eval", python(m))),
    ("numpy.savetxt", lambda m: call("numpy", "savetxt", str(m), [1])),
    # Down the attributes of a module that looks harmless, even of those on the list.
    ("shutil.os.system", lambda m: call("shutil", "os.system", shell(m))),
    ("numpy.f2py.os.system", lambda m: call("numpy", "f2py.os.system", shell(m))),
]


@pytest.mark.parametrize(("name", "attack"), ATTACKS)
def test_an_attack_is_refused_by_name_and_does_not_run(tmp_path, name, attack):
    marker, path = tmp_path / "marker", tmp_path / "x.pkl"
    path.write_bytes(attack(marker))
    with pytest.raises(DataError, match=f"got {name};.*nothing was executed"):
        load_pickle(path)
    assert not marker.exists()
    # The same bytes do run where nobody looks: otherwise this test would show nothing.
    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_an_attack_deep_inside_honest_content(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (shell(marker),)

    marker = tmp_path / "marker"
    content = {"train": {"id": ["a"], "audio": np.array([1, Hostile()], dtype=object)}}
    path = write(tmp_path / "x.pkl", content)
    with pytest.raises(DataError, match=r"x\.pkl: .*posix\.system"):
        load_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_an_extension_code_that_the_process_has_met_before(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "x.pkl"
    copyreg.add_extension("os", "system", 0x77)
    try:
        path.write_bytes(b"\x80\x02\x82\x77" + packed((shell(marker),)) + b"R.")
        pickle.loads(path.read_bytes())  # from now on the code is resolved without find_class
        assert marker.exists()
        marker.unlink()
        with pytest.raises(DataError, match=r"os\.system"):
            load_pickle(path)
        assert not marker.exists()
    finally:
        copyreg.remove_extension("os", "system", 0x77)
    with pytest.raises(DataError, match="unregistered extension code"):
        load_pickle(path)


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_reference_to_an_object_outside(tmp_path, protocol):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "the weights" if obj == "outside" else None

    file = io.BytesIO()
    Pickler(file, protocol).dump({"text": "outside"})
    path = tmp_path / "x.pkl"
    path.write_bytes(file.getvalue())
    with pytest.raises(DataError, match=r"outside the file .'the weights'"):
        load_pickle(path)


def test_no_file_and_no_content(tmp_path):
    with pytest.raises(DataError, match=r"absent\.pkl: expected a pickle file, got nothing there"):
        load_pickle(tmp_path / "absent.pkl")
    with pytest.raises(DataError, match="got a folder"):
        load_pickle(tmp_path)
    empty = tmp_path / "empty.pkl"
    empty.touch()
    with pytest.raises(DataError, match=r"empty\.pkl: expected a pickle file, got an empty one"):
        load_pickle(empty)


def test_a_truncated_file_at_every_length(tmp_path):
    whole = pickle.dumps({"a": np.arange(3.0), "b": ["x", np.float32(1)]}, protocol=4)
    assert whole[-1:] == b"."
    path = tmp_path / "x.pkl"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        dotted = whole[length - 1 : length] == b"."
        with pytest.raises(DataError, match="damaged" if dotted else "got a truncated one"):
            load_pickle(path)
    path.write_bytes(whole)
    assert load_pickle(path)["b"] == ["x", 1]


def test_the_zip_archive_of_these_tests_is_half_a_pickle():
    with pytest.raises(pickle.UnpicklingError, match="persistent"):
        pickle.loads(zipped())


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        # The time is stored as two bytes; as a line's end they would make a pickle of the file.
        archive.writestr(zipfile.ZipInfo("a.txt", (2024, 1, 1, 8, 0, 20)), "a")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"video_id,clip_id,text\n1,2,good\n", "a file that is none"),
        (b"\n\n", "a file that is none"),
        (struct.pack("<8d", *range(8)), "a file that is none"),
        (zipped(), "a zip archive"),
        (b"\x1f\x8b\x08\x00\x00\x00", "a gzip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", r"a numpy \.npy file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\n <!doctype html><html>Quota exceeded</html>", "a web page"),
        (b"\x80\x04\xff.", "a damaged one"),
        (b"\x80\x63N.", "a damaged one"),
        (b"\x80\x04.", "a damaged one"),
    ],
)
def test_another_file_says_what_it_is(tmp_path, data, words):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\.pkl: expected a pickle, got .*{words}"):
        load_pickle(path)


def test_the_real_files_come_back_unchanged(data_folder):
    paths = sorted(data_folder.glob("*.pkl"))
    assert paths
    for path in paths:
        assert same(load_pickle(path), pickle.loads(path.read_bytes()))
