"""Would another rule have decided better? `python -m study.judge --study NAME`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file
from fer.strict_json import to_json
from study.options import Count, Stored

Sampler = Literal["tpe", "random", "tpe-grouped", "tpe-unit", "gp-unit"]


class Options(Stored):
    """Replay rules that stop trials early on the whole curves of stored studies.

    What each would have cost and lost, in many random orders: this program's pruners, Optuna's,
    and none. Best on studies without pruning: curves that were stopped are not known to their
    end, and those that were not are the better ones.
    """

    study: tuple[str, ...] = ()
    """Names of studies under the same conditions; by default the last search."""
    orders: Count = 60
    """Random orders of the trials."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the orders, and of everything else that is drawn."""
    samplers: tuple[Sampler, ...] = ()
    """Also let these samplers search a model of the score that is fitted to the trials; -unit
    ones see one rate for all optimizers, a place in its range. Minutes each."""
    worlds: Count = 10
    """Models that samplers are tried on, each fitted to the trials drawn with replacement."""
    out: Path | None = None
    """JSON file to write all numbers to; one that is there is replaced."""

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
        raise UserError(f"--samplers needs a search, {studies[-1].study_name!r} is none")
    # Studies of format 3 and before did not say by what curves differ in kind.
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
