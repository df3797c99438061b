"""What does each emotion cost (report, chapter 2)? `python -m study.emotions --seeds 3`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fer import command
from fer.files import make_folder
from fer.output import say
from study.options import START, Images, PictureFolder, Seeds, command_line, deadline

if TYPE_CHECKING:
    from study.analysis.removed import Studies


class Options(Seeds, Images, PictureFolder):
    """Train the report's final settings with all emotions and without each in turn, and test
    whether the network distinguishes the remaining ones better.

    Each is a study of its own; run the same command again to finish it. Removing a class changes
    the task, so chance and macro-F1 are shown next to the accuracy, and skill is compared.
    """


def main() -> None:
    options: Options = command.parse(Options, "study.emotions")
    until = deadline(options)
    say(START)

    import optuna

    from study.analysis.odds import few_seeds
    from study.analysis.removed import CHANCE, NOTHING, PREFIX
    from study.dashboard.show import show_study, show_trials
    from study.engine.conduct import Request, conduct
    from study.spec.faces import EMOTIONS, faces
    from study.spec.identity import IDENTITY
    from study.spec.spec import Kind, comparing
    from study.storage.opening import check_storage, hidden
    from study.storage.records import kept
    from study.storage.studies import load_studies

    check_storage(options.storage)
    names: list[str] = []
    line = command_line("study.emotions", sys.argv[1:], hidden(options.storage))
    for name in (NOTHING, *EMOTIONS):
        if time.monotonic() > until:
            print(f"timeout before study {name}; run the same command to continue")
            break
        pipeline = faces(options, remove=() if name == NOTHING else (name,))
        if name == NOTHING:
            if options.out is not None:
                make_folder(options.out)
            if note := few_seeds(options.seeds, len(EMOTIONS), pipeline.validation):
                say(note)
        chance = pipeline.chance

        def conclude(study: "optuna.Study", chance: float = chance) -> None:
            study.set_user_attr(CHANCE, chance)
            show_study(study, load_studies(options.storage), options.storage)

        spec = comparing(
            Kind.REMOVED, f"{PREFIX}{name}", pipeline, {NOTHING: {}}, options.seeds, options.epochs
        )
        request = Request.of_comparison(
            pipeline, spec, options, command=line, deadline=until, show=show_trials
        )
        done = conduct(request, conclude)
        if done.exit_code:
            sys.exit(done.exit_code)
        names.append(done.name)
    if not names:
        return
    by_name = {study.study_name: study for study in load_studies(options.storage)}
    show([(by_name[name], kept(by_name[name], IDENTITY)) for name in names], options.out)


def show(studies: "Studies", out: Path | None) -> None:
    """Print the results, and save a picture of them to the folder `out`."""
    from study.analysis.comparison import fitted_table
    from study.analysis.removed import (
        CHANCE_IN_WORDS,
        OPTIONAL,
        removed_table,
        save_picture,
        skills,
    )
    from study.analysis.tables import own_console

    rows = removed_table(studies)
    if len(rows) == 1:
        return
    console = own_console()
    values = rows[0][5 : rows[0].index("seeds")]
    console.print(fitted_table(rows, [*OPTIONAL, *values], console.width))
    say(CHANCE_IN_WORDS)
    found = skills(studies)
    if out is not None and found:
        path = out / "emotions.png"
        save_picture(found, path)
        print(f"saved  {command.printable(str(path))}")


if __name__ == "__main__":
    command.run(main, lasting=True)
