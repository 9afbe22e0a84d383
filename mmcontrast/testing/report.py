"""The results of a suite, as text, Markdown or JSON."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass

STATUSES = ("failed", "unexpected_pass", "not_run", "expected_failure", "passed")


@dataclass(frozen=True)
class CheckResult:
    """The result of one law.

    ``status`` is ``"passed"``, ``"failed"``, ``"expected_failure"``, ``"unexpected_pass"`` (it was
    expected to fail), or ``"not_run"`` (the loss does not return a finite scalar).
    """

    name: str
    law: str
    number: str
    status: str
    message: str = ""
    hint: str = ""
    code: str = ""
    reason: str = ""
    examples: int = 0
    seconds: float = 0.0

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

    @property
    def ok(self) -> bool:
        """Every law holds, or is broken as expected."""
        return all(r.status in ("passed", "expected_failure") for r in self.results)

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

    def headline(self) -> str:
        """One line: the loss, its kind, and how many laws hold."""
        held = len(self.named("passed"))
        return f"{self.loss} ({self.kind}): {held} of {len(self.results)} laws hold"

    def __str__(self) -> str:
        parts = [self.headline()]
        for status in ("failed", "unexpected_pass", "expected_failure"):
            parts += [str(r) for r in self.results if r.status == status]
        if self.named("not_run"):
            parts.append(
                f"not run, since the loss returns no number: {', '.join(self.named('not_run'))}"
            )
        if self.named("passed"):
            parts.append(_wrapped("passed: ", self.named("passed")))
        if self.not_claimed:
            needs = [f"{name} ({need})" for name, need in self.not_claimed.items()]
            parts.append(_wrapped("not claimed (what would claim it): ", needs))
        return "\n".join(parts)

    def to_markdown(self) -> str:
        """A heading, a table of the laws, and each failure with its example."""
        lines = [f"## {self.headline()}", "", "| law | | result |", "|---|---|---|"]
        for result in sorted(self.results, key=lambda r: STATUSES.index(r.status)):
            detail = result.reason or result.message
            status = result.status.replace("_", " ")
            outcome = f"{status}: {_cell(detail)}" if detail else status
            lines.append(f"| `{result.name}` | {_cell(result.law)} | {outcome} |")
        for result in self.results:
            if result.status == "failed":
                lines += ["", f"### {result.title}", "", result.law, "", result.message]
                lines += ["", f"Usually: {result.hint}", "", "```python", result.code, "```"]
        if self.not_claimed:
            lines += ["", "Not claimed:", ""]
            lines += [f"* `{name}` needs {_cell(need)}" for name, need in self.not_claimed.items()]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """An object with ``loss``, ``kind``, ``ok``, ``checks`` and ``not_claimed``."""
        return json.dumps(
            {
                "loss": self.loss,
                "kind": self.kind,
                "ok": self.ok,
                "checks": [asdict(result) for result in self.results],
                "not_claimed": dict(self.not_claimed),
            },
            indent=2,
        )


class LawsBroken(AssertionError):
    """A loss breaks laws that it claims; ``.report`` has the details."""

    def __init__(self, report: CheckReport):
        super().__init__(str(report))
        self.report = report


def _indented(text: str) -> str:
    return textwrap.fill(text, 96, initial_indent="    ", subsequent_indent="    ")


def _wrapped(title: str, names: tuple[str, ...] | list[str]) -> str:
    return textwrap.fill(title + ", ".join(names), 100, subsequent_indent="    ")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
