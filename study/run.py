"""Search: `python -m study.run --trials 100`. Run it again to finish or extend the study."""

import sys
from typing import TYPE_CHECKING, Literal, get_args

from fer import command
from fer.errors import UserError
from fer.machine import has_gpu
from fer.output import say
from study.options import (
    START,
    Images,
    Name,
    Pipelined,
    Running,
    Search,
    command_line,
    deadline,
)

if TYPE_CHECKING:
    import optuna

    from study.pipeline import Space
    from study.workers.pool import Started

Known = Literal["default", "report", "extended"]


class Options(Images, Pipelined, Running, Search):
    """Search the hyperparameters of the emotion network, prune bad trials, store everything.

    The first trials are the report's hand-made settings, unless --no-hand-made is given. Run
    the same command again to finish an interrupted study, in a second shell to help a running one,
    or with more --trials to extend it. Ctrl-C stops after the current epochs, a second one now.
    """

    study: Name = None
    """Name of the study; by default derived from data and settings."""
    space: str = "default"
    """Search space: default (the six main hyperparameters), report (everything the report varied
    manually), extended (also schedules, augmentation, regularisation, widths), or a YAML file."""
    print_space: Known | None = None
    """Print a space as a YAML file to start from, and exit."""
    remove: tuple[str, ...] = ()
    """Classes to leave out."""


def main() -> None:
    options: Options = command.parse(Options, "study.run")
    until = deadline(options)
    options.refuse(*Images.model_fields, "space", "print_space", "remove")
    if options.print_space:
        from study.spec.printed_space import in_yaml
        from study.spec.spaces import SPACES

        print(in_yaml(SPACES[options.print_space]), end="")
        return
    if options.change_search and options.study is None:
        raise UserError("--change-search needs --study: it continues a named study")
    own = None
    if options.space not in get_args(Known):  # reject a bad file before starting anything
        from study.spec.own_space import find_space

        own = find_space(options.space)

    say(START)
    # Start workers now, so that they load their libraries while this process reads the data.
    from study.pipeline import split_name
    from study.workers.pool import default_processes, head_start

    preload = split_name(options.pipeline)[0] if options.pipeline else "fer.preload"
    count = 1
    if options.ray is not None:
        count = 0  # its workers are elsewhere
    elif options.device == "cpu" or not has_gpu():
        count = options.workers or default_processes()
        options = options.model_copy(update={"workers": count})  # before workers take memory
    with head_start(preload, min(count, options.total or count)) as spare:
        search(options, until, spare, own)


def search(
    options: Options, until: float, spare: "list[Started]", own: "tuple[str, Space] | None"
) -> None:
    """Run or continue the search, print a summary, and exit.

    `own` is the name and content of the user's own space, if given.
    """
    from study.analysis.answer import answer_of
    from study.analysis.commands import say_next
    from study.analysis.next_steps import next_steps
    from study.analysis.summary import summary
    from study.dashboard.show import show_study, show_trials
    from study.engine.conduct import Request, conduct
    from study.pipeline import load_pipeline
    from study.spec.faces import faces
    from study.spec.own_space import find_space
    from study.spec.spec import searching
    from study.storage.opening import check_storage, hidden
    from study.storage.studies import load_studies

    check_storage(options.storage)
    name, space = own or find_space(options.space)
    pipeline = (
        load_pipeline(options.pipeline)
        if options.pipeline
        else faces(options, remove=options.remove, space=space)
    )
    name = pipeline.name if options.pipeline else name
    spec = searching(pipeline, name, options.epochs, options.seed, options.hand_made)
    if own and options.hand_made and not spec.queue:
        say("note   no hand-made settings lie in this space: starting without them", 7)
    line = command_line("study.run", sys.argv[1:], hidden(options.storage))

    def conclude(study: "optuna.Study") -> None:
        studies = load_studies(options.storage)
        answer = answer_of(study, studies)
        summary(study, spec.control, answer)
        say_next(next_steps(study, studies, options.storage, options.pipeline, options.data))
        show_study(study, studies, options.storage)

    request = Request(
        pipeline,
        spec,
        running=options,
        search=options,
        name=options.study,
        command=line,
        deadline=until,
        spare=spare,
        show=show_trials,
    )
    sys.exit(conduct(request, conclude).exit_code)


if __name__ == "__main__":
    command.run(main, lasting=True)
