"""Write a page about a study: `python -m study.report --out study.html`."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import model_validator

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file
from study.options import Existing
from study.words import counted

if TYPE_CHECKING:
    import optuna

SUFFIXES = (".html", ".htm")


class Options(Existing):
    """Write one self-contained HTML page about a study: whether its winner is real, what mattered,
    and the next steps. It needs no network and no scripts, and can be printed.
    """

    out: Path = Path("study.html")
    """HTML file to write; an existing file is replaced."""
    data: Path | None = None
    """Images the study was trained on, to show the worst mistakes of the best trial: the page then
    contains their pixels. FER-2013 only."""

    @model_validator(mode="after")
    def _a_page(self) -> "Options":
        check_file("--out", self.out, SUFFIXES)
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.report")

    import optuna

    from study.page.pictures import pictures_of
    from study.page.render import render
    from study.storage import studies

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = studies.load_study(options.storage, options.study)
    check(study)
    pictures = pictures_of(study, options.data) if options.data else {}
    page = render(study, studies.load_studies(options.storage), options.storage, pictures)
    write_file(options.out, page)
    trials = counted(len(study.get_trials(deepcopy=False)), "trial")
    print(f"{command.printable(str(options.out))}: study {study.study_name}, {trials}")


def check(study: "optuna.Study") -> None:
    """Raise UserError if there is nothing to report about a study."""
    from study.analysis.summary import complete_of
    from study.spec.identity import IDENTITY
    from study.storage.records import kept

    if kept(study, IDENTITY) is None:
        raise UserError(f"study {study.study_name!r} was not created by this program")
    if not complete_of(study):
        raise UserError(f"a report needs a complete trial, study {study.study_name!r} has none")


if __name__ == "__main__":
    command.run(main, lasting=True)
