"""How well each class is told, from a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class ClassScore:
    """Cases of one class: how many there are, were said, and were said rightly."""

    cases: int
    said: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of what was said that is right, 0..1; None if nothing was said."""
        return self.right / self.said if self.said else None

    @property
    def recall(self) -> float | None:
        """Share of the cases that were said, 0..1; None without cases."""
        return self.right / self.cases if self.cases else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0..1; None if the class never occurs."""
        both = self.cases + self.said
        return 2 * self.right / both if both else None

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        """Ends of the recall's 95% interval (Wilson 1927); None without cases."""
        if not self.cases:
            return None
        ends = stats.binomtest(self.right, self.cases).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)


def class_scores(confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Of each class, by a matrix [C, C] of counts: rows are the truth, columns what was said."""
    return [
        ClassScore(sum(row), sum(each[label] for each in confusion), row[label])
        for label, row in enumerate(confusion)
    ]
