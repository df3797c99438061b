"""A study on one page: `python -m study.report --out study.html`."""

from pathlib import Path

from fer import command
from fer.errors import UserError
from fer.files import write_file
from study.options import Existing


class Options(Existing):
    """Write one self-contained HTML page with a study's history, curves, settings and scores."""

    out: Path = Path("study.html")
    """File to write."""


def main() -> None:
    options: Options = command.parse(Options, "study.report")

    import optuna

    from study.analysis.page import render
    from study.analysis.summary import complete_of
    from study.spec.identity import IDENTITY
    from study.storage import studies
    from study.storage.records import finished

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = studies.load_study(options.storage, options.study)
    complete = complete_of(study)
    if len(complete) < 2 or IDENTITY not in study.user_attrs:
        raise UserError(
            f"a report needs at least 2 complete trials, study {study.study_name!r} has "
            f"{len(complete)}"
        )
    page = render(study)
    write_file(options.out, page)
    print(f"{options.out}: study {study.study_name}, {len(finished(study))} trials")


if __name__ == "__main__":
    command.run(main)
