"""The verdict of a judge."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Verdict:
    """`checked` is how many facts the judge has checked; `counts` are figures for the report."""

    checked: int = 0
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        return not self.violations

    def check(self, holds: bool, otherwise: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(otherwise)
