"""Small pickles that would exhaust their reader are refused, within a second and 200 MB."""

import pickle
import re
import struct

import numpy as np
import pytest

from reference_models.data.pickles import load_pickle
from reference_models.data.scanning import MOST_NUMBERS, scan
from tests.reference_models.data.test_pickles import honest, named, packed
from tests.reference_models.data.test_rebuilding import NDARRAY, PLAIN_STATE, SCALAR, array, dtype
from tests.reference_models.files import write
from tests.reference_models.hostile import hostile, read_all

P = b"\x80\x04"


def doubled(step: bytes, levels: int = 45) -> bytes:
    """A value made of the one before again and again; ``step`` has %s for that."""
    out = b"X\x03\x00\x00\x00lol\x94"
    for level in range(levels):
        out += b"0" + step.replace(b"%s", b"h" + bytes([level])) + b"\x94"
    return out


PAIRS = doubled(b"%s%s\x86")
LISTS = doubled(b"](%s%s%s%se")
BIG = b"B" + struct.pack("<I", 10**5) + bytes(10**5) + b"q\x62"  # in the memo as b


def colliding(count: int) -> bytes:
    """A dict whose keys have the same hash."""
    pairs = (pickle.dumps(row * (2**61 - 1), 2)[2:-1] + b"N" for row in range(count))
    return P + b"}(" + b"".join(pairs) + b"u."


ATTACKS = {
    "a memo index of 10^8": (b"\x80\x02]r\x00\xe1\xf5\x05.", "memo index 100000000"),
    "a memo index of 10^8 in text": (b"(lp100000000\n.", "memo index 100000000"),
    "a memo index with signs": (b"(lp-1\n.", "memo index"),
    "a memo index that is not there": (P + b"]h\x05.", "a value is missing"),
    "lists in lists": (P + b"]" * 300_000 + b"a" * 299_999 + b".", "more than 100 times"),
    "tuples in tuples": (P + b")" + b"\x85" * 300_000 + b".", "more than 100 times"),
    "a deep tuple as a key": (P + b"})" + b"\x85" * 300_000 + b"Ns.", "more than 100 times"),
    "lists in lists, one by one": (
        P + b"](" + b"]\x94" + b"".join(b"]h" + bytes([i]) + b"a\x94" for i in range(200)) + b"e.",
        "more than 100 times",
    ),
    "dicts in dicts": (P + b"N}" * 300_000 + b"N" + b"Ns" * 2 + b".", "a key that"),
    "a million lists": (P + b"(" + b"]" * 10**6 + b"t.", "very many containers"),
    "a million dicts": (P + b"(" + b"}" * 10**6 + b"t.", "very many containers"),
    "a million sets": (P + b"(" + b"\x8f" * 10**6 + b"t.", "very many containers"),
    "sets that are called for": (
        P + b"c__builtin__\nset\n\x94(" + b"h\x00)R" * 500_000 + b"t.",
        "very many containers",
    ),
    "marks": (P + b"(" * 300_000 + b".", "missing"),
    "pairs of pairs as a key": (P + b"}" + PAIRS + b"Ns.", "a key that is a container"),
    "pairs of pairs in a set": (P + b"\x8f(" + PAIRS + b"\x90.", "a key that is a container"),
    "pairs of pairs in a frozenset": (P + b"(" + PAIRS + b"\x91.", "a key that is a container"),
    "pairs of pairs in a set that is called": (
        P + b"c__builtin__\nset\n" + PAIRS + b"\x85R.",
        "neither text nor a number",
    ),
    "pairs of pairs with no state, as a key": (
        P + b"}" + PAIRS + b"NbNs.",
        "a key that is a container",
    ),
    "pairs of pairs with nothing appended, as a key": (
        P + b"}" + PAIRS + b"(eNs.",
        "a key that is a container",
    ),
    "pairs of pairs, copied, as a key": (P + b"}" + PAIRS + b"2Ns.", "a key that is a container"),
    "frozensets as keys": (P + b"}" + b"(K\x01\x91Ns.", "a key that is a container"),
    "a dict of marks": (P + b"(" + PAIRS + b"Nd.", "a key that is a container"),
    "keys with one hash": (colliding(20_000), "very long integer"),
    "numbers as keys": (
        P + b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(40_000)) + b"u.",
        f"more than {MOST_NUMBERS} keys",
    ),
    "a long integer as a key": (P + b"}\x8b" + struct.pack("<i", 10**5) + b"\x01" * 10**5 + b"Ns.",
                                "very long integer"),
    "a billion laughs": (P + LISTS + b".", "shared very often"),
    "a billion laughs in tuples": (P + PAIRS + b".", "shared very often"),
    "a billion laughs in dicts": (P + doubled(b"}(K\x01%sK\x02%su") + b".", "shared very often"),
    "a long text many times": (
        P + b"](X" + struct.pack("<I", 10**5) + b"a" * 10**5 + b"\x94" + b"h\x00" * 10**5 + b"e.",
        "shared very often",
    ),
    "a long word made many times": (
        P + b"](" + named(*SCALAR) + b"q\x61" + BIG + dtype("U25000") + b"q\x63"
        + b"hahchb\x86R" * 10**4 + b"e.",
        "again and again",
    ),
    "an array of other byte order made many times": (
        P + named("numpy._core.numeric", "_frombuffer") + b"q\x61" + BIG
        + dtype("i2", (3, ">", None, None, None, -1, -1, 0)) + b"q\x63"
        + b"](" + b"ha(hbhcM\x50\xc3\x85X\x01\x00\x00\x00CtR" * 10**4 + b"e.",
        "again and again",
    ),
    "bytes made many times": (
        P + b"](c_codecs\nencode\n\x94X" + struct.pack("<I", 10**5) + b"a" * 10**5 + b"\x94"
        + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R" * 10**4 + b"e.",
        "again and again",
    ),
    "letters of no size": (array(NDARRAY, (10**12,), b"", dtype("U0", PLAIN_STATE)), "no bytes"),
    "bytes of no size": (array(NDARRAY, (10**12,), b"", dtype("S0", PLAIN_STATE)), "no bytes"),
    "no letter of a large size": (
        array(NDARRAY, (0,), b"", dtype("U500000000", PLAIN_STATE)), "no bytes"
    ),
    "many rows of nothing": (
        array(NDARRAY, (10**9, 0), b"", dtype("f4", PLAIN_STATE)), "without content"
    ),
    "a shape of floats": (array(NDARRAY, (2.0,), bytes(8), dtype("f4", PLAIN_STATE)), "shape of"),
    "a shape of NaN": (array(NDARRAY, (np.nan, 0), b"", dtype("f4", PLAIN_STATE)), "shape of"),
    "a shape of booleans": (array(NDARRAY, (True,), bytes(4), dtype("f4", PLAIN_STATE)), "shape"),
    "a shape of long integers": (
        array(NDARRAY, (10**3000, 0), b"", dtype("f4", PLAIN_STATE)), "shape of"
    ),
    "a dtype of many letters": (P + dtype("U" + "9" * 10**5) + b".", "the dtype 'U9"),
    "a dtype of nested tuples": (P + named("numpy", "dtype") + PAIRS + b"\x85R.", "the dtype"),
    "text of four exabytes": (P + b"\x8d" + struct.pack("<Q", 2**62) + b"a.", "that is longer"),
    "bytes of four gigabytes": (P + b"B" + b"\xff" * 4 + b"a.", "longer than the file"),
    "a frame of four exabytes": (P + b"\x95" + struct.pack("<Q", 2**62) + b"N.", "frame"),
    "a frame of two gigabytes": (P + b"\x95" + struct.pack("<Q", 2**31) + b"N.", "frame"),
    "an integer of a million digits": (b"I" + b"9" * 10**6 + b"\n.", "damaged|none"),
    "a float that is a long text": (b"F" + b"a" * 10**7 + b"\n.", "could not convert|none"),
    "a function with a long name": (b"c" + b"a" * 10**6 + b"\nb\n.", r"a\.\.\.; nothing was"),
    "an instance with a long name": (b"(ia\x1b\n" + b"b" * 10**6 + b"\n.", r"a\\x1b.bb"),
    "an object outside that is nested": (P + LISTS + b"Q.", r"outside the file \(a list\)"),
    "content that changes": (
        P + b"\x96" + struct.pack("<Q", 4) + bytes(4) + b"\x94"
        + named("numpy._core.numeric", "_frombuffer")
        + b"(h\x00" + dtype("f4", PLAIN_STATE) + b"K\x01\x85X\x01\x00\x00\x00CtRh\x00K\x01a.",
        "damaged",
    ),
    "letters that change": (
        P + b"](\x96" + struct.pack("<Q", 4) + bytes(4) + b"qb"
        + named("numpy._core.numeric", "_frombuffer")
        + b"(hb" + dtype("U1", PLAIN_STATE) + b"K\x01\x85X\x01\x00\x00\x00CtR"
        + b"hbK\x03K\xffse.",
        "text outside Unicode",
    ),
    "an array that is given content twice": (
        array(NDARRAY, (1,), bytes(4), dtype("f4", PLAIN_STATE))[:-1]
        + packed((1, (1,), "f4", False, b"")) + b"b.",
        "another state for an array",
    ),
    "a buffer outside": (b"\x80\x05\x97.", "a buffer outside the file"),
    "half a character": (P + b"X\x03\x00\x00\x00\xed\xb2\x00.", "damaged"),
    "no result": (P + b".", "missing"),
    "a mark that is missing": (P + b"]e.", "missing"),
    "an unknown opcode": (P + b"\xff.", "unknown opcode"),
}  # fmt: skip


SEEDS = range(150)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """File name -> how its reading went; all of them in one process."""
    folder = tmp_path_factory.mktemp("x")
    for place, (data, _) in enumerate(ATTACKS.values()):
        (folder / f"attack{place}.pkl").write_bytes(data)
    for seed in SEEDS:
        (folder / f"seed{seed}.pkl").write_bytes(hostile(seed))
    return read_all(folder)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_the_reader_is_refused(verdicts, name):
    verdict = verdicts[f"attack{list(ATTACKS).index(name)}.pkl"]
    assert verdict.startswith("refused: ")
    assert re.search(ATTACKS[name][1], verdict), verdict


def test_damaged_and_hostile_files_by_seed(verdicts):
    found = {seed: verdicts[f"seed{seed}.pkl"] for seed in SEEDS}
    bad = {seed: text for seed, text in found.items() if not text.startswith(("loads", "refused"))}
    assert not bad
    assert sum(text == "loads" for text in found.values()) > 5  # not everything is refused


def test_a_scan_passes_what_is_honest():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        scan(pickle.dumps(honest(), protocol))


def test_keys_and_members_that_are_usual(tmp_path):
    content = {
        ("video", 3): {1, 2.5, "a", ("b", 1)},
        2**40: frozenset({b"x", None}),
        **{row: str(row) for row in range(10_000)},
        np.int64(-1): {np.str_("a"): True},
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert load_pickle(write(tmp_path / "x.pkl", content, protocol)) == content


def test_shared_columns_and_repeated_words_are_no_attack(tmp_path):
    column = np.zeros((100, 50, 30))
    content = {name: {"audio": column, "annotations": ["Positive"] * 10**5} for name in "abc"}
    loaded = load_pickle(write(tmp_path / "x.pkl", content))
    assert loaded["a"]["audio"] is loaded["c"]["audio"]
    assert loaded["b"]["annotations"] == content["b"]["annotations"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04](K\x01K\x021]K\x03a.",  # POP_MARK
        b"\x80\x04]K\x01(0a.",  # POP of a mark
        b"\x80\x04]K\x01K\x020a.",
        b"\x80\x04]2\x86.",
        b"(lp5\nF1.5\naF2.5\nag5\n.",
        b"]q\x05M\x01\x02K\x03\x86.",
    ],
)
def test_rare_opcodes_are_followed_as_the_reader_does(tmp_path, data):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    assert load_pickle(path) == pickle.loads(data)


@pytest.mark.parametrize(("key", "counts"), [(lambda i: i, 1), (lambda i: (i, i + 1), 10)])
def test_keys_are_counted_before_a_table_is_made(key, counts):
    """By the scan alone: what rebuilds the objects counts them as well, but then they are there."""
    most = MOST_NUMBERS // counts
    scan(pickle.dumps({key(i): None for i in range(most)}))
    with pytest.raises(pickle.UnpicklingError, match=f"more than {MOST_NUMBERS} keys"):
        scan(pickle.dumps({key(i): None for i in range(most + 1)}))
