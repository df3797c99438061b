"""What each emotion costs (report, chapter 2): `python -m study.emotions --seeds 3`."""

import sys
import time
from typing import TYPE_CHECKING

from fer import command
from study.options import Images, Seeds, command_line, deadline

if TYPE_CHECKING:
    import optuna


class Options(Seeds, Images):
    """Train the report's final settings without each of the emotions in turn, and with all.

    A study for each, stored like any other; the same command finishes them. Removing a class
    changes the task, so chance and macro-F1 stand beside the accuracy.
    """


def main() -> None:
    options: Options = command.parse(Options, "study.emotions")
    until = deadline(options)

    from rich.table import Table

    from study.analysis.removed import CHANCE, CHANCE_IN_WORDS, NOTHING, PREFIX, removed_table
    from study.analysis.tables import own_console
    from study.dashboard.show import show_study, show_trials
    from study.engine.conduct import Request, conduct
    from study.spec.faces import EMOTIONS, faces
    from study.spec.identity import IDENTITY
    from study.spec.spec import Kind, comparing
    from study.storage.records import kept
    from study.storage.studies import hidden, load_studies

    rows: list[list[str]] = []
    line = command_line("study.emotions", sys.argv[1:], hidden(options.storage))
    for name in (NOTHING, *EMOTIONS):
        if time.monotonic() > until:
            print(f"the time is up before {name} is removed; the same command continues")
            break
        pipeline = faces(options, remove=() if name == NOTHING else (name,))
        chance = pipeline.chance

        def conclude(study: "optuna.Study", chance: float = chance) -> None:
            study.set_user_attr(CHANCE, chance)
            head, *lines = removed_table([(study, kept(study, IDENTITY))])
            rows.extend(lines if rows else [head, *lines])
            show_study(study, load_studies(options.storage), options.storage)

        spec = comparing(
            Kind.REMOVED, f"{PREFIX}{name}", pipeline, {NOTHING: {}}, options.seeds, options.epochs
        )
        request = Request.of_comparison(
            pipeline, spec, options, command=line, deadline=until, show=show_trials
        )
        if exit_code := conduct(request, conclude).exit_code:
            sys.exit(exit_code)
    if not rows:
        return
    table = Table(*rows[0], header_style="bold")
    for row in rows[1:]:
        table.add_row(*row)
    console = own_console()
    console.print(table)
    console.print(CHANCE_IN_WORDS, soft_wrap=True)


if __name__ == "__main__":
    command.run(main, lasting=True)
