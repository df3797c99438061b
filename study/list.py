"""List the studies of a database: `python -m study.list`."""

import time
from dataclasses import asdict
from typing import Annotated

import tyro

from fer import command
from fer.errors import UserError
from study.options import Stored


class Options(Stored):
    """List the studies of a database, most recently active first: numbers of complete, stopped
    (pruned, diverged, out of memory) and running trials, the total requested, the best score, the
    time since the last activity, and the verdict.
    """

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON for scripts: a list with one object per study."""


def main() -> None:
    options: Options = command.parse(Options, "study.list")

    import optuna

    from fer.strict_json import to_json
    from study.analysis.listing import in_lines, listed
    from study.analysis.tables import own_console
    from study.storage import opening, studies

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = studies.load_studies(options.storage)
    if not found:
        raise UserError(f"no study in {opening.hidden(options.storage)}; study.run makes one")
    rows = sorted((listed(study, found) for study in found), key=lambda row: -row.last)
    if options.as_json:
        print(to_json([asdict(row) for row in rows], indent=2))
        return
    print(*in_lines(rows, time.time(), own_console().width), sep="\n")


if __name__ == "__main__":
    command.run(main)
