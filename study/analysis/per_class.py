"""Precision, recall and F1 of each class, from a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassScore:
    """Counts of one class: true cases, predicted, and predicted correctly."""

    cases: int
    said: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of predictions that are correct, 0..1; None if the class was never predicted."""
        return self.right / self.said if self.said else None

    @property
    def recall(self) -> float | None:
        """Share of cases predicted correctly, 0..1; None without cases."""
        return self.right / self.cases if self.cases else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 0..1; None if the class never occurs."""
        both = self.cases + self.said
        return 2 * self.right / both if both else None

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        """95% interval of the recall (Wilson 1927); None without cases."""
        if not self.cases:
            return None
        from scipy import stats

        ends = stats.binomtest(self.right, self.cases).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)


def class_scores(confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Return the counts of each class from a confusion matrix [C, C]: rows are true classes,
    columns predicted ones."""
    return [
        ClassScore(sum(row), sum(each[label] for each in confusion), row[label])
        for label, row in enumerate(confusion)
    ]
