"""The results of a suite, as text, Markdown, HTML or JSON."""

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mmcontrast.testing.document import document
from mmcontrast.testing.matrix import Similarities
from mmcontrast.testing.traits import DISTANCE, MINERS, NOUNS

RETURNS = {**dict.fromkeys(MINERS, "pairs"), DISTANCE: "number for each pair"}
"""What the laws of a kind need first; of losses, a number."""

STATUSES = ("failed", "unexpected_pass", "not_run", "expected_failure", "skipped", "passed")


@dataclass(frozen=True)
class CheckResult:
    """The result of one law.

    ``status`` is ``"passed"``, ``"failed"``, ``"expected_failure"``, ``"unexpected_pass"`` (it was
    expected to fail), ``"not_run"`` (the loss does not return a finite scalar), or ``"skipped"``
    (torch cannot do what the law needs; the reason says what). Failures of one ``cause`` are one
    block of the report.
    """

    name: str
    law: str
    number: str
    status: str
    message: str = ""
    hint: str = ""
    code: str = ""
    reason: str = ""
    cause: str = ""
    examples: int = 0
    seconds: float = 0.0
    similarities: Similarities | None = None
    """Of the example's rows, where a picture of them helps."""

    @property
    def title(self) -> str:
        """The name, and the law's number where it has one."""
        return f"{self.name} (law {self.number})" if self.number else self.name

    def __str__(self) -> str:
        lines = [f"{self.status.upper().replace('_', ' ')} {self.title}: {self.law}"]
        if self.message:
            lines.append(_indented(self.message))
        if self.reason:
            lines.append(_indented(f"expected, since: {self.reason}"))
        if self.status == "failed":
            lines.append(_indented(f"Usually: {self.hint}"))
            lines.append(_indented("The smallest example found:"))
            lines.append(textwrap.indent(self.code, "        "))
        return "\n".join(lines)


@dataclass(frozen=True)
class Failure:
    """The failures of one cause, the one of the shortest example first."""

    results: tuple[CheckResult, ...]

    @property
    def title(self) -> str:
        """How many laws, and what they have in common."""
        first = self.results[0]
        whole = " ".join(first.message.split()) if first.cause != self.shared else self.shared
        return f"{len(self.results)} laws, one cause: {_short(whole)}"

    @property
    def shared(self) -> str:
        """The cause, where it is not the laws' own message."""
        cause = self.results[0].cause
        return "" if cause.startswith("raised ") else cause

    def each(self) -> list[str]:
        """The laws, each with its message where they differ."""
        if not self.shared.endswith("claims"):
            return [_indented(f"laws: {', '.join(r.title for r in self.results)}")]
        return [_indented(f"{r.title}: {_short(r.message)}") for r in self.results]

    def __str__(self) -> str:
        first = self.results[0]
        if len(self.results) == 1:
            return str(first)
        lines = [f"FAILED {self.title}", *self.each()]
        lines.append(_indented(f"Usually: {first.hint}"))
        lines.append(_indented(f"The smallest example found, of {first.name}:"))
        lines.append(textwrap.indent(first.code, "        "))
        return "\n".join(lines)

    def to_markdown(self) -> list[str]:
        """A section with one example."""
        first = self.results[0]
        law, message = _line(first.law), _line(first.message)
        code = [f"Usually: {_line(first.hint)}", ""]
        if first.similarities is not None:
            code += [*first.similarities.to_markdown(), ""]
        code += ["```python", first.code, "```"]
        if len(self.results) == 1:
            return ["", f"### {first.title}", "", law, "", message, "", *code]
        laws = [f"* `{r.name}`: {_line(r.law)}" for r in self.results]
        return [
            "",
            f"### {_line(self.title)}",
            "",
            *laws,
            "",
            f"`{first.name}`: {message}",
            "",
            *code,
        ]


def _by_cause(results: tuple[CheckResult, ...]) -> list[Failure]:
    """The failures, those of one cause together."""
    groups: dict[str, list[CheckResult]] = {}
    for result in results:
        if result.status == "failed":
            groups.setdefault(result.cause or result.name, []).append(result)
    return [Failure(tuple(sorted(group, key=lambda r: len(r.code)))) for group in groups.values()]


@dataclass(frozen=True)
class CheckReport:
    """The results of the laws that a loss claims, and the traits that would claim the others.

    Example:
        >>> result = CheckResult("symmetric", "Exchanging changes nothing.", "10", "passed")
        >>> report = CheckReport("my_loss", "paired", (result,), {})
        >>> report.ok, report.failed
        (True, ())
        >>> print(report)
        my_loss (paired): 1 of 1 laws hold
        passed: symmetric
    """

    loss: str
    kind: str
    results: tuple[CheckResult, ...]
    not_claimed: Mapping[str, str]
    unchecked: str = ""
    """What no law is about, and how to declare it; empty where nothing is left out."""
    proposal: str = ""
    """The nearest known form, where it was asked for."""

    @property
    def ok(self) -> bool:
        """Every law holds, or is broken as expected."""
        return all(r.status in ("passed", "expected_failure", "skipped") for r in self.results)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the laws that are broken and were not expected to be."""
        return self.named("failed")

    @property
    def unexpected_passes(self) -> tuple[str, ...]:
        """The names of the laws that were expected to be broken and hold."""
        return self.named("unexpected_pass")

    def named(self, status: str) -> tuple[str, ...]:
        """The names of the laws of a status."""
        return tuple(r.name for r in self.results if r.status == status)

    def __getitem__(self, name: str) -> CheckResult:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(name)

    def in_order(self) -> list[CheckResult]:
        """All results, the broken laws first."""
        return sorted(self.results, key=lambda r: STATUSES.index(r.status))

    def failures(self) -> list[Failure]:
        """The broken laws, those of one cause together."""
        return _by_cause(self.results)

    def headline(self) -> str:
        """One line: the loss, its kind, how many laws hold, and what none of them is about."""
        held = len(self.named("passed"))
        rest = f"; {self.unchecked}" if self.unchecked else ""
        return f"{self.loss} ({self.kind}): {held} of {len(self.results)} laws hold{rest}"

    def __str__(self) -> str:
        parts = [self.headline(), *([self.proposal] if self.proposal else [])]
        parts += [str(failure) for failure in self.failures()]
        for status in ("unexpected_pass", "expected_failure"):
            parts += [str(r) for r in self.results if r.status == status]
        if self.named("not_run"):
            why = f"not run, since the {NOUNS.get(self.kind, 'loss')} returns no "
            why += RETURNS.get(self.kind, "number")
            parts.append(f"{why}: {', '.join(self.named('not_run'))}")
        parts += [
            _indented(f"skipped {r.title}: {r.reason}", "")
            for r in self.results
            if r.status == "skipped"
        ]
        if self.named("passed"):
            parts.append(_wrapped("passed: ", self.named("passed")))
        if self.not_claimed:
            needs = [f"{name} ({need})" for name, need in self.not_claimed.items()]
            parts.append(_wrapped("not claimed (what would claim it): ", needs))
        return "\n".join(parts)

    def to_markdown(self) -> str:
        """A heading, a table of the laws, and each failure with its example."""
        lines = [f"## {_line(self.headline())}", ""]
        if self.proposal:
            lines += ["```", self.proposal, "```", ""]
        lines += ["| law | | result |", "|---|---|---|"]
        for result in self.in_order():
            detail = result.reason or result.message
            status = result.status.replace("_", " ")
            outcome = f"{status}: {_line(detail)}" if detail else status
            lines.append(f"| `{result.name}` | {_line(result.law)} | {outcome} |")
        for failure in self.failures():
            lines += failure.to_markdown()
        if self.not_claimed:
            lines += ["", "Not claimed:", ""]
            lines += [f"* `{name}` needs {_line(need)}" for name, need in self.not_claimed.items()]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """One page: what failed, with a picture of the example's similarities, and all laws."""
        return document(self)

    def to_json(self) -> str:
        """An object: ``loss``, ``kind``, ``ok``, ``checks``, and what was not checked."""
        return json.dumps(
            {
                "loss": self.loss,
                "kind": self.kind,
                "ok": self.ok,
                "checks": [asdict(result) for result in self.results],
                "not_claimed": dict(self.not_claimed),
                "unchecked": self.unchecked,
                "proposal": self.proposal,
            },
            indent=2,
        )


class LawsBroken(AssertionError):
    """A loss breaks laws that it claims; ``.report`` has the details."""

    def __init__(self, report: CheckReport):
        super().__init__(str(report))
        self.report = report


def _indented(text: str, indent: str = "    ") -> str:
    return textwrap.fill(text, 96, initial_indent=indent, subsequent_indent="    ")


def _short(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def _wrapped(title: str, names: tuple[str, ...] | list[str]) -> str:
    return textwrap.fill(title + ", ".join(names), 100, subsequent_indent="    ")


def _line(text: str) -> str:
    """A text on one line of Markdown, in which nothing is a cell's end or a tag."""
    return " ".join(re.sub(r"[|<]", r"\\\g<0>", text).split())
