"""Every small mistake that a source text can be given: where, and what stands there instead."""

import ast
import hashlib
import tokenize
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

NEIGHBOUR: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr},
}
"""Of comparisons, logic and arithmetic."""

COUNTERPARTS = {
    **{"min": "max", "amin": "amax", "minimum": "maximum", "argmin": "argmax", "any": "all"},
    **{"zeros": "ones", "zeros_like": "ones_like", "new_zeros": "new_ones", "tril": "triu"},
    **{"floor": "ceil", "mean": "sum", "break": "continue"},
}
COUNTERPARTS |= {b: a for a, b in COUNTERPARTS.items()}

DROPPED = {
    *("abs", "clamp", "clamp_max", "clamp_min", "clone", "detach", "float", "masked_fill"),
    *("nan_to_num", "relu", "to", "transpose", "unsqueeze"),
}
"""Methods whose call a mutant leaves out."""

REDUCING = {
    *("all", "amax", "amin", "any", "argmax", "argmin", "cumsum", "log_softmax", "logsumexp"),
    *("max", "mean", "min", "prod", "size", "softmax", "sort", "std", "sum", "unsqueeze", "var"),
}
"""Methods whose first number is an axis."""

AXES = {"axis", "dim"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINED = (*FUNCTIONS, ast.ClassDef)


@dataclass(frozen=True)
class Mutant:
    """One change: bytes ``start`` to ``end`` of a file become ``new``."""

    path: str
    operator: str
    lines: tuple[int, int]
    """First and last of the statement, or of its head; as ``around``, if it runs at import."""
    around: tuple[int, int]
    """First and last of the function or the class that it is in; of the file, if in none."""
    start: int
    end: int
    at: int
    line: str
    """The text of the line on which it starts."""
    old: str
    new: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]

    def key(self, source: bytes) -> str:
        """Of its file's text: another file, or another text, is another mutant."""
        return hashlib.sha256(self.path.encode() + b"\0" + self.apply(source)).hexdigest()[:16]


def mutants(path: str, source: bytes) -> list[Mutant]:
    """All of a file, in the order of their places.

    Raises:
        ValueError: it is not in UTF-8. Python gives places in a line as bytes of UTF-8.
    """
    encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
    if encoding not in ("utf-8", "utf-8-sig"):
        raise ValueError(f"{path}: expected UTF-8, got {encoding}")
    text = Text(source)
    tree = ast.parse(source)
    found = {}
    for node, new, operator, lines, around in walk(tree, (1, len(text.lines)), None):
        start, end = text.span(node)
        old = source[start:end].decode()
        first = text.lines[node.lineno - 1].decode().strip()
        mutant = Mutant(path, operator, lines, around, start, end, node.lineno, first, old, new)
        if same(old, new) or (start, end, new) in found:
            continue
        found[start, end, new] = mutant
    return sorted(found.values(), key=lambda m: (m.start, m.end, m.new))


def same(old: str, new: str) -> bool:
    return "".join(old.split()) == "".join(new.split())


class Text:
    """Places of a source text in bytes, which is what ast counts columns in."""

    def __init__(self, source: bytes) -> None:
        self.source = source

    @cached_property
    def lines(self) -> list[bytes]:
        return self.source.removeprefix(BOM_UTF8).splitlines(keepends=True)

    @cached_property
    def begins(self) -> list[int]:
        # A mark of the encoding is in no column.
        places = [len(self.source) - len(self.source.removeprefix(BOM_UTF8))]
        for line in self.lines:
            places.append(places[-1] + len(line))
        return places

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.begins[node.lineno - 1] + node.col_offset
        return start, self.begins[node.end_lineno - 1] + node.end_col_offset


Lines = tuple[int, int]
Found = tuple[ast.expr | ast.stmt, str, str, Lines, Lines]


def walk(node: ast.AST, around: Lines, lines: Lines | None) -> Iterator[Found]:
    """The changes below a node, each with its lines: None outside functions, and in their heads."""
    if is_left_alone(node):
        return
    if isinstance(node, ast.stmt) and lines is not None:
        lines = head(node)
    if isinstance(node, DEFINED):
        first = min(x.lineno for x in [node, *node.decorator_list])
        around, lines = (first, node.end_lineno or node.lineno), None
    for place, new, operator in changes(node):
        yield place, new, operator, lines or around, around
    for name, field in ast.iter_fields(node):
        if name not in ("annotation", "returns", "type_params"):
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    in_body = isinstance(node, FUNCTIONS) and name == "body"
                    yield from walk(child, around, around if in_body else lines)


def is_left_alone(node: ast.AST) -> bool:
    """What has no behaviour that a test could hold: words, types, names."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.MatchValue):  # a name would match all
        return isinstance(node.value, ast.Attribute)
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    if isinstance(node, ast.Assign):
        return any(isinstance(x, ast.Name) and x.id == "__all__" for x in node.targets)
    if isinstance(node, ast.FunctionDef):
        return any(ast.unparse(x).split(".")[-1] == "overload" for x in node.decorator_list)
    return False


def head(node: ast.stmt) -> Lines:
    """A statement's lines, without those of the block under it."""
    last = node.end_lineno or node.lineno
    body = getattr(node, "body", None)
    if body:
        last = max(node.lineno, body[0].lineno - 1)
    return node.lineno, last


def changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """What a node itself can become: the node to replace, the new text, the operator's name."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                new = [NEIGHBOUR[type(op)]() if i == j else x for j, x in enumerate(ops)]
                yield node, written(node, ops=new), "comparison"
        case ast.BoolOp(op=op, values=values):
            yield node, written(node, op=NEIGHBOUR[type(op)]()), "logic"
            for i in range(len(values)):
                left = values[:i] + values[i + 1 :]
                yield node, written(node, values=left), "dropped term"
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in NEIGHBOUR:
                yield node, written(node, op=NEIGHBOUR[type(op)]()), "arithmetic"
                yield node, written(left), "dropped term"
                if isinstance(op, ast.Add | ast.Mult | ast.BitAnd | ast.BitOr):
                    yield node, written(right), "dropped term"
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield node, written(operand), "dropped sign"
        case ast.AugAssign(op=op) if type(op) in NEIGHBOUR:
            yield node, written(node, op=NEIGHBOUR[type(op)]()), "arithmetic"
        case ast.Constant(value=value) if isinstance(value, bool | int | float):
            yield node, other_constant(value), "constant"
        case ast.If(test=test, body=body) | ast.While(test=test, body=body):
            yield test, f"not ({ast.unparse(test)})", "condition"
            if all(isinstance(x, ast.Raise | ast.Return | ast.Continue) for x in body):
                yield test, "False", "removed guard"
        case ast.IfExp(test=test):
            yield test, f"(not ({ast.unparse(test)}))", "condition"
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield value, "None", "removed return"
        case ast.Expr(value=ast.Call()):
            yield node, "pass", "removed statement"
        case ast.Break() | ast.Continue():
            yield node, COUNTERPARTS[type(node).__name__.lower()], "loop"
        case ast.Attribute(value=value, attr="T" | "mT"):
            yield node, written(value), "swapped axes"
        case ast.Call():
            yield from changes_of_a_call(node)
    if isinstance(node, DEFINED):
        for decorator in node.decorator_list:
            yield decorator, "(lambda undecorated: undecorated)", "dropped decorator"


def changes_of_a_call(node: ast.Call) -> Iterator[tuple[ast.expr, str, str]]:
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is None:
            continue
        left = node.keywords[:i] + node.keywords[i + 1 :]
        yield node, written(node, keywords=left), "dropped keyword"
        if keyword.arg in AXES:
            yield from other_axis(keyword.value)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in COUNTERPARTS:
        yield node.func, renamed(node.func, COUNTERPARTS[name]), "counterpart"
    if isinstance(node.func, ast.Attribute):
        if name in DROPPED:
            yield node, written(node.func.value), "dropped call"
        if name in REDUCING and node.args and ast.unparse(node.func.value) != "torch":
            yield from other_axis(node.args[0])


def other_axis(node: ast.expr) -> Iterator[tuple[ast.expr, str, str]]:
    try:
        axis = ast.literal_eval(node)
    except ValueError:
        return
    if isinstance(axis, int) and not isinstance(axis, bool):
        yield node, "1" if axis == 0 else "0", "axis"


def other_constant(value: bool | float) -> str:
    """The other truth; one more; twice as much, or 1 for 0.0, or 1e9 where that is infinite."""
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + 1)
    return "1e9" if 2 * value == float("inf") else repr(2 * value or 1.0)


def renamed(function: ast.expr, name: str) -> str:
    return written(function, attr=name) if isinstance(function, ast.Attribute) else name


def written(node: ast.AST, **fields: object) -> str:
    """A node's text with some of its fields replaced; an expression in brackets."""
    old = {name: getattr(node, name) for name in node._fields}
    changed = type(node)(**{**old, **fields})
    if isinstance(changed, ast.BoolOp) and len(changed.values) == 1:
        changed = changed.values[0]
    text = ast.unparse(ast.copy_location(changed, node))
    plain = isinstance(changed, ast.Name | ast.Constant | ast.Call | ast.Attribute | ast.stmt)
    return text if plain else f"({text})"
