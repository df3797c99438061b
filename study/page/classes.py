"""Per-class results of the best trial, and its worst mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.analysis.per_class import class_scores
from study.page.markup import Html, paragraph, section, shown, table, tagged
from study.page.trials import Row
from study.pipeline import Mistake
from study.spec.identity import Identity

TITLE = "Where the best trial goes wrong"


def classes_section(best: Row, identity: Identity, pictures: Mapping[int, Html]) -> Html:
    """Return the confusion matrix, per-class scores, and the most confident mistakes.

    `pictures` maps indices of validation cases to their images.
    """
    counts = best.result.confusion if best.result else []
    if not counts or any(len(row) != len(counts) for row in counts):
        return section(TITLE, paragraph("This study stored no confusion matrices.", "none"))
    names = class_names(identity, len(counts))
    which = (
        f"Trial {best.number}: the {sum(map(sum, counts)):,} validation cases in its last epoch. "
    )
    how = "Rows: true class; columns: predicted class. Shading: share of the row."
    matrix = tagged("div", matrix_of(counts, names))
    scores = tagged("div", scores_of(counts, names))
    return section(
        TITLE,
        paragraph(which + how, "note"),
        Html(f"<div class='figures tables'>{matrix}{scores}</div>"),
        mistakes_part(best.result.mistakes if best.result else [], names, pictures),
    )


def class_names(identity: Identity, count: int) -> list[str]:
    """Return the class names, or numbers if the pipeline does not name `count` classes."""
    names: Any = identity.get("classes", ())
    return [*map(str, names if len(names) == count else range(count))]


def matrix_of(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    """Return the confusion matrix as a table, shaded by shares of the rows."""
    head = "".join(tagged("th", name, "number") for name in names)
    lines = ""
    for name, row in zip(names, counts, strict=True):
        total = max(1, sum(row))
        cells = "".join(
            f"<td style='--share:{each / total:.3f}' title='{each / total:.0%}'>{each}</td>"
            for each in row
        )
        lines += f"<tr>{tagged('th', name)}{cells}</tr>"
    body = f"<table class='shares'><thead><tr><th>true</th>{head}</tr></thead>{lines}</table>"
    return Html(f"<div class='wide'>{body}</div>")


def scores_of(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    """Return precision, recall with its interval, and F1 of each class."""
    rows: list[list[Any]] = [["class", "cases", "precision", "F1", "recall", "95% interval"]]
    for name, each in zip(names, class_scores(counts), strict=True):
        ends = each.recall_interval
        precision, f1, recall = (
            "-" if value is None else f"{value:.3f}"
            for value in (each.precision, each.f1, each.recall)
        )
        interval = f"[{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "-"
        rows.append([name, each.cases, precision, f1, recall, interval])
    return table(rows, "values")


def mistakes_part(
    mistakes: Sequence[Mistake], names: Sequence[str], pictures: Mapping[int, Html]
) -> Html:
    """Return the most confident mistakes, each with its picture if there is one."""
    if not mistakes:
        return Html()
    head = [*(["picture"] if pictures else []), "true", "predicted", "confidence", "case"]
    rows: list[list[Any]] = [head]
    for each in sorted(mistakes, key=lambda each: -each.sure):
        picture = [pictures.get(each.case, Html())] if pictures else []
        truth, said = (name_of(label, names) for label in (each.truth, each.said))
        rows.append([*picture, truth, said, f"{each.sure:.0%}", shown(each.case)])
    lead = paragraph(
        "The most confident mistakes. Look at them before blaming the model: some labels are "
        "wrong.",
        "note",
    )
    return Html(tagged("h3", "Worst mistakes") + lead + table(rows))


def name_of(label: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has none."""
    return names[label] if 0 <= label < len(names) else str(label)
