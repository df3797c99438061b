"""Which value of a setting is better? `python -m study.compare --vary fc-width --seeds 3`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from fer import command
from fer.files import make_folder
from fer.output import say
from study.options import START, Images, PictureFolder, Seeds, command_line, deadline
from study.spec.report import FACTORS, PRESETS, Factor

if TYPE_CHECKING:
    import optuna

    from study.engine.conduct import Request

Vary = Literal[*FACTORS]  # type: ignore[valid-type]
Preset = Literal[*PRESETS]  # type: ignore[valid-type]


class Options(Seeds, Images, PictureFolder):
    """Train every value of a setting with several seeds, everything else as in the report's final
    model, and judge the report's claim about it.

    Each setting is a study of its own; run the same command again to finish it.
    """

    vary: tuple[Vary, ...] = ()
    """Settings to vary, one study each. `seed` trains --preset or --config with several seeds;
    `ablation` reverts, one part at a time, what --config changes from the report."""
    preset: Preset | None = None
    """Base settings: the report's final ones (hand-tuned, the default), its starting point
    (baseline), the final ones with oversampled copies scaled twice, as in its code
    (reproduction), or also with validation images mirrored (reproduction-mirrored)."""
    config: Path | None = None
    """Base settings from a YAML file, for example best.yaml of study.export."""

    @model_validator(mode="after")
    def _fitting_together(self) -> "Options":
        if not self.vary:
            raise ValueError("name at least one setting to --vary")
        if self.config and self.preset:
            raise ValueError("give --config or --preset, not both")
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.compare")
    until = deadline(options)
    say(START)

    from study.dashboard.show import show_trials
    from study.engine.conduct import Request
    from study.spec import report
    from study.spec.faces import check, faces, noting_origin
    from study.spec.spec import Kind, comparing
    from study.storage.opening import check_storage, hidden

    check_storage(options.storage)
    named, base = report.settings_from(options.config, options.preset)
    # Check all of them before training the first.
    variants = {name: report.values_of(name, base) for name in options.vary}
    for name, values in variants.items():
        check(name, base, values, last_seed=options.seeds - 1)
    accept = None
    if options.config:
        accept = noting_origin(options.config, base, options, options.epochs or base.epochs)
    pipeline = faces(options, base, accept=accept)
    if options.out is not None:
        make_folder(options.out)
    line = command_line("study.compare", sys.argv[1:], hidden(options.storage))
    for name, values in variants.items():
        if time.monotonic() > until:
            print(f"timeout before {name}; run the same command to continue")
            return
        alone = name == "seed"
        spec = comparing(
            Kind.SEEDS if alone else Kind.COMPARE,
            named if alone else name,
            pipeline,
            values,
            options.seeds,
            options.epochs,
        )
        request = Request.of_comparison(
            pipeline, spec, options, command=line, deadline=until, show=show_trials
        )
        compare(request, FACTORS[name], options.out)


def compare(request: "Request", factor: Factor, out: Path | None) -> None:
    """Train the requested comparison and print its results."""
    from study.engine.conduct import conduct

    def conclude(study: "optuna.Study") -> None:
        from study.analysis.comparison import effects_table, in_brackets
        from study.analysis.effects import effects
        from study.analysis.noise import noise_elsewhere
        from study.analysis.picture import save_plot
        from study.analysis.tables import own_console
        from study.analysis.verdicts import claim, judge
        from study.dashboard.show import show_study
        from study.spec.identity import IDENTITY
        from study.storage.records import kept
        from study.storage.studies import load_studies

        identity, studies = kept(study, IDENTITY), load_studies(request.running.storage)
        found, control = effects(study, identity), factor.control
        console = own_console()
        verdicts = {}
        if control:
            noise = noise_elsewhere(studies, identity)
            verdicts = judge(found, control, factor.rivals, noise)
        console.print(effects_table(found, factor.title, control, verdicts, console.width))
        if factor.claim:
            word, why = claim(found, verdicts, control, factor.rivals)
            say(f"the report: {factor.claim}")
            say(f"{word}: {why}")
        if out is not None and any(effect.scores for effect in found):
            path = out / f"{request.spec.name}.png"
            save_plot(found, factor.title, control, verdicts, path)
            print(f"saved  {command.printable(str(path))}")
        if control:
            say(in_brackets(found, identity))
        show_study(study, studies, request.running.storage)

    if exit_code := conduct(request, conclude).exit_code:
        sys.exit(exit_code)


if __name__ == "__main__":
    command.run(main, lasting=True)
