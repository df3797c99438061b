"""The comparisons of a database on one page: `python -m study.results --out docs/results`."""

from pathlib import Path

from fer import command
from fer.errors import UserError
from fer.files import check_folder, make_folder, write_file
from study.options import Stored

PAGE = "results.md"


class Options(Stored):
    """Write a Markdown page with pictures on every comparison and search in a database: command,
    data, code version, results, the verdict on the report's claim, and which settings mattered in
    a search.
    """

    out: Path = Path("results")
    """Folder to write results.md and its pictures to; created if it is missing, and existing files
    of theirs are replaced."""


def main() -> None:
    options: Options = command.parse(Options, "study.results")
    check_folder("--out", options.out)

    import optuna

    from study.analysis.sections import render
    from study.spec.identity import IDENTITY, check_format
    from study.storage import opening, studies
    from study.storage.records import kept, scored

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = []
    for study in studies.load_studies(options.storage):
        if kept(study, IDENTITY) and scored(study):
            check_format(study.study_name, kept(study, IDENTITY))
            found.append(study)
    if not found:
        raise UserError(
            f"nothing was trained in {opening.hidden(options.storage)}; start a comparison with "
            "study.compare or a search with study.run"
        )
    make_folder(options.out)
    write_file(options.out / PAGE, render(found, options.storage, options.out))
    count = f"{len(found)} {'study' if len(found) == 1 else 'studies'}"
    print(f"{command.printable(str(options.out / PAGE))}: {count}")


if __name__ == "__main__":
    command.run(main, lasting=True)
