"""Damaged and hostile pickles, by seed; and a process with little memory and time to read them in.

Run as a program, ``python -m tests.reference_models.hostile FOLDER``, it reads every file of a
folder and prints how that went.
"""

import pickle
import pickletools
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from reference_models.data.pickles import DataError, load_pickle
from tests.reference_models.files import content, mag_bert_content, ur_funny_content

ROOT = Path(__file__).parents[2]
# It takes less than a second; an attack that succeeds takes minutes, or ends the process.
SECONDS, MEGABYTES = 10, 200
NAMES = [
    b"numpy\nndarray\n",
    b"numpy\ndtype\n",
    b"numpy._core.multiarray\n_reconstruct\n",
    b"numpy.core.multiarray\nscalar\n",
    b"numpy._core.numeric\n_frombuffer\n",
    b"_codecs\nencode\n",
    b"__builtin__\nset\n",
    b"__builtin__\nbytes\n",
    b"os\nsystem\n",
]
SIZES = [0, 1, 3, 8, 255, 2**16, 10**8, 2**31 - 1, 2**32 - 1, 2**63 - 1]
LINES = [b"0", b"1", b"100000000", b"-1", b"nan", b"1e999", b"9" * 5000, b"'a'", b"01", b"\xff"]


def argument(op: pickletools.OpcodeInfo, random: np.random.Generator) -> bytes:
    """An argument of the form that the opcode asks for; its length may be a lie."""
    if op.name in ("GLOBAL", "INST"):
        return NAMES[random.integers(len(NAMES))]
    if op.arg is None:
        return b""
    if op.arg.n == pickletools.UP_TO_NEWLINE:
        return LINES[random.integers(len(LINES))] + b"\n"
    if op.arg.n >= 0:
        value = SIZES[random.integers(len(SIZES))] if random.random() < 0.2 else random.integers(8)
        return (int(value) % 2 ** (8 * op.arg.n)).to_bytes(op.arg.n, "little")
    width = {-2: 1, -3: 4, -4: 4, -5: 8}[op.arg.n]
    honest = bytes(random.integers(0, 128, random.integers(0, 9), dtype=np.uint8))
    size = len(honest) if random.random() < 0.9 else SIZES[random.integers(len(SIZES))]
    return (int(size) % 2 ** (8 * width)).to_bytes(width, "little") + honest


def soup(random: np.random.Generator) -> bytes:
    """Any opcodes, mostly those that find what they need on the stack."""
    out, depth, marks = bytearray(b"\x80\x04"), 0, 0
    for _ in range(random.integers(1, 60)):
        op = pickletools.opcodes[random.integers(len(pickletools.opcodes))]
        needs = [kind for kind in op.stack_before if kind is not pickletools.markobject]
        if random.random() < 0.95 and (
            op.name == "STOP" or len(needs) > depth or len(needs) < len(op.stack_before) > marks
        ):
            op = pickletools.code2op["]K(N}"[random.integers(5)]]
        marks += (op.name == "MARK") - (pickletools.markobject in op.stack_before)
        depth += len(op.stack_after) - len(op.stack_before)
        out += op.code.encode("latin1") + argument(op, random)
    return bytes(out + b".")


def honest(random: np.random.Generator) -> bytes:
    make = (content, mag_bert_content, ur_funny_content)[random.integers(3)]
    return pickle.dumps(make(int(random.integers(3))), int(random.integers(6)))


def damaged(random: np.random.Generator) -> bytes:
    """A file of a known layout with a few other bytes, a part left out, or one put in twice."""
    data = bytearray(honest(random))
    for _ in range(random.integers(1, 5)):
        start, stop = sorted(random.integers(0, len(data), 2))
        kind = random.integers(6)
        if kind <= 2:
            data[start] = random.integers(256)
        elif kind == 3:
            data[start] = ord(pickletools.opcodes[random.integers(len(pickletools.opcodes))].code)
        elif kind == 4:
            del data[start : min(stop, start + 50)]
        else:
            data[start:start] = data[start : min(stop, start + 50)]
    return bytes(data if random.random() < 0.9 else data[: random.integers(1, len(data))])


def doubled(random: np.random.Generator) -> bytes:
    """Containers that hold the one before several times: as a key, an item or an argument."""
    kind = [b"\x86", b"\x87", b"\x91", b"l", b"t", b"e"][random.integers(6)]
    out = bytearray(b"\x80\x04X\x03\x00\x00\x00lol\x94")
    for level in range(random.integers(2, 60)):
        get = b"h" + bytes([level])
        if kind in b"\x86\x87":
            out += get * (kind[0] - 0x84) + kind + b"\x94"
        elif kind == b"e":
            out += b"](" + get * 9 + b"e\x94"
        else:
            out += b"(" + get * 9 + kind + b"\x94"
    last = b"h" + bytes([level + 1])
    end = random.integers(5)
    if end == 0:
        return bytes(out + b"}" + last + b"Ns.")
    if end == 1:
        return bytes(out + b"\x8f(" + last + b"\x90.")
    if end == 2:
        return bytes(out + b"c__builtin__\nset\n" + last + b"\x85R.")
    if end == 3:
        return bytes(out + b"cnumpy\ndtype\n" + last + b"\x85R.")
    return bytes(out + b".")


def hostile(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    return (soup, damaged, doubled)[random.integers(3)](random)


def limit_memory() -> None:
    """From here on this process can have so many megabytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def verdict(path: Path) -> str:
    """ "loads", or "refused: " and why, or what is wrong with how the file was read."""
    found, start = "loads", time.process_time()
    signal.alarm(60)  # ends the process
    try:
        load_pickle(path)
    except DataError as error:
        found = f"refused: {error}"
        if isinstance(error.__cause__, MemoryError):
            found = "needs too much memory"
        if len(found) > 1000 or not found.isprintable():
            found = f"a long message: {found[:100]!r}"
    except Exception as error:
        found = f"raises {type(error).__name__}: {str(error)[:100]!r}"
    finally:
        signal.alarm(0)
    seconds = time.process_time() - start
    return found if seconds < SECONDS else f"takes {seconds:.1f} seconds"


def read_all(folder: Path) -> dict[str, str]:
    """Name of each file -> its verdict, of a process of its own."""
    command = [sys.executable, "-m", "tests.reference_models.hostile", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    missing = [path.name for path in sorted(folder.iterdir()) if path.name not in found]
    assert not missing, f"ended with {done.returncode} at {missing[0]}: {done.stderr[-500:]}"
    return found


def main(folder: Path) -> None:
    limit_memory()
    for path in sorted(folder.iterdir()):
        sys.stdout.write(f"{path.name} {verdict(path)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
