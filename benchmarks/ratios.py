"""Statistics: ratios of variants that are measured in turn, and percentiles."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Ratios of a variant to its baseline, one for each round: their median, lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float]) -> "Ratio":
        ratios = [value / base for value, base in zip(values, baseline, strict=True) if base]
        if not ratios:
            return cls(float("nan"), float("nan"), float("nan"))
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` percent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
