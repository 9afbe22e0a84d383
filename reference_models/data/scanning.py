"""The opcodes of a pickle, looked at before pickle's reader runs them.

A pickle is a program for a machine with a stack and a memo. Its reader is fast and trusts the file:
a memo index is the size of a table, a length the size of a buffer, and a key is hashed whatever it
is. Tuples that each hold the one before twice take 2^45 steps after a hundred bytes. :func:`scan`
runs the same program without making anything: of each value it keeps one byte, its kind.
"""

import pickle
import pickletools
import re
from typing import Any

from reference_models.excerpt import excerpt

MOST_NUMBERS = 30_000  # as keys: a table in which all of them collide is filled in a second

# Bytes that an empty list or dict, and a set or what is called, need here: of one to three there.
_CONTAINER, _CALL = 150, 400

DEEPEST = 100
TOO_DEEP = f"containers in containers, more than {DEEPEST} times"

# Kinds of values, by what a hash of them costs. Python keeps the hash of a text, and salts it;
# equal hashes of numbers can be made on purpose; those of other tuples and integers take any time.
# From _NO_KEY up, the kind is the number of containers in each other, as far as it is known here: a
# list can be filled when it is elsewhere already.
_TEXT, _NUMBER, _SHORT_TUPLE, _NO_KEY = range(4)
_UNSET = 255
_SHORT = 8  # values in a tuple

_CODES = {op.name: ord(op.code) for op in pickletools.opcodes}


def _codes(names: str) -> bytes:
    return bytes(_CODES[name] for name in names.split())


# What each opcode puts on the stack, if it takes nothing from it. Functions and what they return
# count as numbers: their hash is their address, or that of a number.
_PUSHES = dict.fromkeys(_codes("BINFLOAT BININT BININT1 BININT2 FLOAT NONE"), _NUMBER)
_PUSHES |= dict.fromkeys(_codes("EMPTY_LIST EMPTY_DICT EMPTY_SET BYTEARRAY8"), _NO_KEY)
_PUSHES |= dict.fromkeys(_codes("NEWTRUE NEWFALSE GLOBAL PERSID EXT1 EXT2 EXT4"), _NUMBER)
_PUSHES |= dict.fromkeys(_codes("INT LONG LONG1 LONG4"), _NUMBER)  # long ones: _NO_KEY
_PUSHES |= dict.fromkeys(_codes("STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE"), _TEXT)
_PUSHES |= dict.fromkeys(_codes("SHORT_BINUNICODE BINUNICODE8 BINBYTES BINBYTES8"), _TEXT)
_PUSHES |= dict.fromkeys(_codes("SHORT_BINBYTES"), _TEXT) | {_CODES["EMPTY_TUPLE"]: _SHORT_TUPLE}
_INTEGERS = dict(zip(_codes("INT LONG LONG1 LONG4"), (22, 22, 10, 13), strict=True))

# Opcodes that make one value of some: of the last so many ones, or of all since the mark (None).
_CALLS = _codes("STACK_GLOBAL REDUCE BINPERSID INST")
_MAKES: dict[int, int | None] = dict.fromkeys(_codes("STACK_GLOBAL REDUCE"), 2)
_MAKES |= {_CODES["BINPERSID"]: 1} | dict.fromkeys(_codes("LIST DICT FROZENSET TUPLE INST"))
_MAKES |= dict(zip(_codes("TUPLE1 TUPLE2 TUPLE3"), (1, 2, 3), strict=True))
_TUPLES = _codes("TUPLE TUPLE1 TUPLE2 TUPLE3")
# Opcodes that put some into the value below them.
_FILLS: dict[int, int | None] = dict.fromkeys(_codes("APPENDS SETITEMS ADDITEMS"))
_FILLS |= dict(zip(_codes("APPEND SETITEM BUILD"), (1, 2, 1), strict=True))
# Every one, or every second, of these is hashed.
_KEYS = dict(zip(_codes("DICT FROZENSET SETITEM SETITEMS ADDITEMS"), (2, 1, 2, 2, 1), strict=True))

_PUTS, _GETS = _codes("PUT BINPUT LONG_BINPUT MEMOIZE"), _codes("GET BINGET LONG_BINGET")
_SKIPPED = _codes("PROTO FRAME READONLY_BUFFER")
_REFUSED = dict.fromkeys(_codes("OBJ NEWOBJ NEWOBJ_EX"), "an instance of a class")
_STOP, _MARK, _MEMOIZE, _FLOAT, _FRAME = _codes("STOP MARK MEMOIZE FLOAT FRAME")
(_EMPTY_SET,) = _codes("EMPTY_SET")
_SHORT_BINUNICODE, _BINUNICODE, _BINGET = _codes("SHORT_BINUNICODE BINUNICODE BINGET")
_TWO_LINES, _TEXT_INDEX, _POPS = _codes("GLOBAL INST"), _codes("GET PUT"), _codes("POP POP_MARK")
_REFUSED |= {_CODES["NEXT_BUFFER"]: "a buffer outside the file"}

# Arguments: their sizes, and of which size is the length in front of those of no fixed one.
_SIZES = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
_WIDTHS = {-2: 1, -3: 4, -4: 4, -5: 8}
_TO_NEWLINE = -1

# Runs of numbers fill most of a file that has lists for arrays; they are passed at one go. In
# protocol 0, each is appended by itself.
_RUNS = {
    _CODES["BINFLOAT"]: (re.compile(rb"(?:G.{8})+", re.DOTALL), 9),
    _CODES["BININT1"]: (re.compile(rb"(?:K.)+", re.DOTALL), 2),
    _CODES["BININT2"]: (re.compile(rb"(?:M..)+", re.DOTALL), 3),
}
_APPENDED = re.compile(rb"(?:F[^\n]{1,40}\na)+")


def scan(data: Any) -> None:
    """Follow a pickle to its end.

    Args:
        data: the whole file: bytes, or a file mapped to memory.

    Raises:
        EOFError: a value, or the pickle, is longer than the file.
        pickle.UnpicklingError: an unknown opcode; a value that is missing on the stack; a memo
            index above the size of the file; a nested tuple or a long integer as a key, or very
            many numbers as keys; very many containers, or in each other, a hundred times.
    """
    machine, place = _Machine(data), 0
    stack, memo = machine.stack, machine.memo
    try:
        while (code := data[place]) != _STOP:
            # The four opcodes that files are full of; the machine knows the rest.
            if code == _MEMOIZE and machine.known == len(memo):
                memo.append(stack[-1])
                machine.known += 1
                place += 1
            elif code == _SHORT_BINUNICODE:
                stack.append(_TEXT)
                place += 2 + data[place + 1]
            elif code == _BINGET and memo[data[place + 1]] != _UNSET:
                stack.append(memo[data[place + 1]])
                place += 2
            elif code == _BINUNICODE:
                stack.append(_TEXT)
                place += 5 + int.from_bytes(data[place + 1 : place + 5], "little")
            else:
                place = machine.step(code, place)
                stack = machine.stack
        stack.pop()
    except IndexError:
        if place >= len(data):
            raise EOFError("the file ends before the pickle does") from None
        raise pickle.UnpicklingError(f"a value is missing at byte {place}") from None


def _around(parts: bytearray) -> int:
    """The kind of a container of these."""
    kind = 1 + max(_SHORT_TUPLE, max(parts, default=0))
    if kind > _NO_KEY + DEEPEST:
        raise pickle.UnpicklingError(TOO_DEEP)
    return kind


class _Machine:
    """The machine of a pickle, with kinds for values; an ``IndexError``: it lacks a value."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.stack = bytearray()
        self.below: list[bytearray] = []  # the stacks under each mark
        self.memo = bytearray()
        self.known = 0  # values in the memo
        self.numbers = 0  # that are keys
        self.left = 2**25 + 30 * len(data)  # bytes

    def step(self, code: int, place: int) -> int:
        """Run the opcode at ``place``, or a run of them, and return the place of the next."""
        if code in _RUNS:
            pattern, width = _RUNS[code]
            run = pattern.match(self.data, place)
            end = run.end() if run else len(self.data)
            self.stack += bytes((_NUMBER,)) * ((end - place) // width)
            return end
        if code == _FLOAT and (run := _APPENDED.match(self.data, place)):
            self._top()
            return run.end()
        size = _SIZES.get(code, 0)
        end = place + 1 + size if size >= 0 else self._end(code, place + 1, size)
        if end > len(self.data):
            raise EOFError(f"a value at byte {place} that is longer than the file")
        kind = _PUSHES.get(code)
        if kind is not None:
            long = code in _INTEGERS and end - place > _INTEGERS[code]
            self.stack.append(_NO_KEY if long else kind)
            if kind == _NO_KEY:
                self._spend(_CALL if code == _EMPTY_SET else _CONTAINER)
        elif code in _PUTS:
            self._put(self.known if code == _MEMOIZE else self._index(code, place + 1, end))
        elif code in _GETS:
            self.stack.append(self._get(self._index(code, place + 1, end)))
        elif code in _MAKES:
            parts = self._taken(code, _MAKES[code])
            self.stack.append(self._made(code, parts))
            self._spend(_CALL if code in _CALLS else _CONTAINER)
        elif code in _FILLS:
            parts = self._taken(code, _FILLS[code])
            if self._top() >= _NO_KEY:
                self.stack[-1] = max(self._top(), _around(parts))
        elif code == _MARK:
            self.below.append(self.stack)
            self.stack = bytearray()
        else:
            self._rare(code, place, end)
        return end

    def _end(self, code: int, start: int, size: int) -> int:
        """Where an argument of no fixed size ends."""
        if size == _TO_NEWLINE:
            end = self._line(start)
            return self._line(end) if code in _TWO_LINES else end
        width = _WIDTHS[size]
        return start + width + int.from_bytes(self.data[start : start + width], "little")

    def _line(self, start: int) -> int:
        end = self.data.find(b"\n", start)
        if end < 0:
            raise EOFError("a line without an end")
        return int(end) + 1

    def _top(self) -> int:
        return self.stack[-1]

    def _taken(self, code: int, count: int | None) -> bytearray:
        """The last ``count`` kinds, or all since the mark, taken from the stack."""
        if count is None:
            taken, self.stack = self.stack, self.below.pop()
        else:
            if len(self.stack) < count:
                raise IndexError
            taken = self.stack[-count:]
            del self.stack[-count:]
        if code in _KEYS:
            self._check_keys(taken[:: _KEYS[code]])
        return taken

    def _spend(self, size: int) -> None:
        """Take the room of one more container, or call."""
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("very many containers for the size of the file")

    def _check_keys(self, kinds: bytearray) -> None:
        if max(kinds, default=0) >= _NO_KEY:
            raise pickle.UnpicklingError("a key that is a container or a very long integer")
        self.numbers += kinds.count(_NUMBER) + 10 * kinds.count(_SHORT_TUPLE)
        if self.numbers > MOST_NUMBERS:
            raise pickle.UnpicklingError(f"more than {MOST_NUMBERS} keys that are numbers")

    def _made(self, code: int, parts: bytearray) -> int:
        if code in _TUPLES:
            short = len(parts) <= _SHORT and max(parts, default=0) <= _NUMBER
            return _SHORT_TUPLE if short else _around(parts)
        return _NUMBER if code in _CALLS else _around(parts)

    def _index(self, code: int, start: int, end: int) -> int:
        """The index in the memo that an opcode has for its argument."""
        argument = self.data[start:end]
        if code not in _TEXT_INDEX:
            return int.from_bytes(argument, "little")
        if not argument[:-1].isdigit() or len(argument) > 20:
            raise pickle.UnpicklingError(f"the memo index {excerpt(argument)}")
        return int(argument)

    def _put(self, index: int) -> None:
        if index > len(self.data):
            raise pickle.UnpicklingError(f"the memo index {index} in {len(self.data)} bytes")
        if index >= len(self.memo):
            self.memo += bytes((_UNSET,)) * (index + 1 - len(self.memo))
        self.known += self.memo[index] == _UNSET
        self.memo[index] = self._top()

    def _get(self, index: int) -> int:
        kind = self.memo[index]
        if kind == _UNSET:
            raise IndexError
        return kind

    def _rare(self, code: int, place: int, end: int) -> None:
        if code == _FRAME:  # its argument is the length of the opcodes that follow
            if end + int.from_bytes(self.data[place + 1 : end], "little") > len(self.data):
                raise EOFError(f"a frame at byte {place} that is longer than the file")
        elif code == _CODES["DUP"]:
            self.stack.append(self._top())
        elif code == _CODES["POP"] and self.stack:
            self.stack.pop()
        elif code in _POPS:
            self.stack = self.below.pop()
        elif code in _REFUSED:
            raise pickle.UnpicklingError(_REFUSED[code])
        elif code not in _SKIPPED:
            raise pickle.UnpicklingError(f"an unknown opcode at byte {place}")
