"""Would another pruner or sampler have done better? `python -m study.judge --study NAME`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file
from fer.strict_json import to_json
from study.options import Count, Stored

Sampler = Literal["tpe", "random", "tpe-grouped", "tpe-unit", "tpe-hand", "gp-unit"]


class Options(Stored):
    """Replay pruning rules on the complete learning curves of stored studies.

    Reports the cost and regret of each rule over many random orders: this program's pruners,
    Optuna's, and none. Best on studies without pruning: pruned curves have no known end, and
    complete ones are biased towards good settings.
    """

    study: tuple[str, ...] = ()
    """Names of studies with the same conditions; by default the last search."""
    orders: Count = 60
    """Random orders of the trials."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the orders and all other random draws."""
    samplers: tuple[Sampler, ...] = ()
    """Also run these samplers on a model of the score fitted to the trials; those ending in -unit
    see one learning rate for all optimizers, as a position in its range; tpe-hand draws a part of
    the trials around the hand-made settings. Takes minutes each."""
    worlds: Count = 10
    """Number of models to test samplers on, each fitted to trials drawn with replacement."""
    out: Path | None = None
    """JSON file to write all numbers to; an existing file is replaced."""

    @model_validator(mode="after")
    def _a_file(self) -> "Options":
        check_file("--out", self.out)
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.judge")

    import numpy as np
    import optuna

    from study.judging.choosing import choosing
    from study.judging.curves import whole_curves
    from study.judging.tables import (
        say_epochs,
        say_rules,
        say_samplers,
        say_score,
        say_what_there_is,
    )
    from study.spec.identity import FORMAT, is_search
    from study.storage.studies import current, load_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = tuple(dict.fromkeys(options.study)) or (None,)
    studies = [load_study(options.storage, name, search=name is None) for name in names]
    identity = current(studies[-1]) or {}
    if options.samplers and not is_search(identity):
        raise UserError(f"--samplers needs a search, {studies[-1].study_name!r} is not one")
    # Studies up to format 3 did not store which settings make curves incomparable.
    old = identity.get("format", 1) < FORMAT
    curves_by = ["schedule"] if old else identity.get("pruner", {}).get("within", [])
    curves = whole_curves(studies, curves_by)
    generator = np.random.default_rng(options.seed)
    chosen = choosing(curves, studies)
    numbers = {
        **say_what_there_is(studies, curves),
        **say_rules(curves, options.orders, options.seed),
        **say_epochs(curves, generator),
        **say_score(chosen),
    }
    if options.samplers:
        numbers |= say_samplers(
            curves,
            identity["space_definition"],
            chosen.noise_of_last,
            samplers=options.samplers,
            count=options.worlds,
            seed=options.seed,
            generator=generator,
        )
    if options.out is not None:
        write_file(options.out, to_json(numbers, indent=2))
        print(f"saved  {command.printable(str(options.out))}")


if __name__ == "__main__":
    command.run(main, lasting=True)
