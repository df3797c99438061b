"""What each emotion costs (report, chapter 2): `python -m study.emotions --seeds 3`."""

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fer import command
from study.compare import Training

if TYPE_CHECKING:
    import optuna

    from fer.data import Faces
    from study.identity import Identity

PREFIX = "without-"
"""Of the names of the studies of this table."""
NOTHING = "nothing"
CHANCE = "chance"
"""The study attribute that holds the share of the largest class in validation."""
CHANCE_IN_WORDS = (
    "Chance is the share of the largest class; skill is how far the accuracy is on the way from "
    "chance to 1."
)


@dataclass(frozen=True)
class Options(Training):
    """Train the report's final settings without each of the emotions in turn, and with all.

    A study for each, stored like any other; the same command finishes them. Removing a class
    changes the task, so chance and macro-F1 stand beside the accuracy.
    """


def main() -> None:
    options: Options = command.parse(Options, "study.emotions")

    from rich.table import Table

    from fer.config import EMOTIONS, PRESETS
    from study.display import own_console
    from study.identity import IDENTITY
    from study.question import comparing
    from study.search import conduct

    begin = time.monotonic()
    rows: list[list[str]] = []

    def conclude(study: "optuna.Study", validation: "Faces") -> None:
        study.set_user_attr(CHANCE, max(validation.counts().values()) / len(validation))
        head, *lines = emotions_table([(study, study.user_attrs[IDENTITY])])
        rows.extend(lines if rows else [head, *lines])

    for name in (NOTHING, *EMOTIONS):
        question = comparing(
            f"{PREFIX}{name}", PRESETS["hand-tuned"], {NOTHING: {}}, options.seeds
        )
        remove = () if name == NOTHING else (name,)
        run_options = options.run_options(len(question.queue), begin, remove)
        if run_options is None:
            print(f"the time is up before {name} is removed; the same command continues")
            break
        conduct(run_options, question, conclude)
    if not rows:
        return
    table = Table(*rows[0], header_style="bold")
    for row in rows[1:]:
        table.add_row(*row)
    console = own_console()
    console.print(table)
    console.print(CHANCE_IN_WORDS, soft_wrap=True)


def emotions_table(studies: "list[tuple[optuna.Study, Identity]]") -> list[list[str]]:
    """Head and rows: what was removed, accuracy, its error, chance, skill, macro-F1, seeds."""
    from study.effects import effects

    head = ["removed", "accuracy", "standard error", "chance", "skill", "macro-F1", "seeds"]
    rows = [head]
    for study, identity in studies:
        (effect,) = effects(study, identity)
        if not effect.accuracies:
            continue
        chance: Any = study.user_attrs.get(CHANCE)
        skill = "-" if chance is None else f"{(effect.mean - chance) / (1 - chance):.4f}"
        rows.append(
            [
                identity["space"].removeprefix(PREFIX),
                f"{effect.mean:.4f}",
                f"{effect.error:.4f}" if len(effect.accuracies) > 1 else "-",
                "-" if chance is None else f"{chance:.4f}",
                skill,
                f"{statistics.fmean(effect.macro_f1s):.4f}",
                str(len(effect.accuracies)),
            ]
        )
    return rows


if __name__ == "__main__":
    command.run(main)
