"""Which value of a setting is better? `python -m study.compare --vary fc-width --seeds 3`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fer import command
from fer.errors import UserError

if TYPE_CHECKING:
    import optuna

    from fer.data import Faces
    from study.factors import Factor
    from study.question import Question
    from study.run import Options as RunOptions

Vary = Literal[
    "lr-adam",
    "lr-adamax",
    "lr-sgd",
    "lr-rmsprop",
    "lr-adagrad",
    "lr-asgd",
    "lr-rprop",
    "optimizer",
    "batch-size",
    "fc-width",
    "output",
    "scaling",
    "pooling",
    "activation",
    "norm",
    "dropout",
    "augmentation",
    "oversampling",
    "tta",
    "ablation",
    "seed",
]


@dataclass(frozen=True)
class Training:
    """How trials that are compared are trained."""

    seeds: int = 3
    """Trials of each value, with seeds from 0 on."""
    epochs: int | None = None
    """Training epochs of a trial; by default those of the settings, with demo faces 5."""
    data: Path | None = None
    """FER-2013 in any known form; else FER_DATA, ./data, or demo faces."""
    subset: int | None = None
    """Train and validate on this many images, stratified."""
    split: Literal["grouped", "stratified"] = "grouped"
    """grouped keeps identical images on one side; stratified is the report's."""
    workers: int | None = None
    """Trials at once: processes on a processor, streams on a GPU; by default what serves best."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions; auto is bfloat16 where the device has it."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    timeout: float | None = None
    """Stop this many seconds after the start, once the epochs that run have ended; the same
    command continues later."""
    checkpoints: Path | None = None
    """Folder for the states of interrupted trials."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError(f"--seeds must be at least 1, got {self.seeds}")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"--timeout must be more than 0 seconds, got {self.timeout}")

    def run_options(
        self, trials: int, begin: float, remove: tuple[str, ...] = ()
    ) -> "RunOptions | None":
        """The options of `study.run` for a study of so many trials, all of them trained whole.

        None if the time is up that was counted from `begin`, on the monotonic clock.
        """
        from study.run import Options as RunOptions

        left = None if self.timeout is None else begin + self.timeout - time.monotonic()
        if left is not None and left <= 0:
            return None
        return RunOptions(
            trials=trials,
            data=self.data,
            storage=self.storage,
            epochs=self.epochs,
            subset=self.subset,
            remove=remove,
            split=self.split,
            workers=self.workers,
            device=self.device,
            precision=self.precision,
            pruner="none",
            timeout=left,
            checkpoints=self.checkpoints,
        )


@dataclass(frozen=True)
class Options(Training):
    """Train every value of a setting with several seeds, all else as the report's final model
    has it, and judge what the report says of it.

    A study for each setting, stored like any other; the same command finishes it.
    """

    vary: tuple[Vary, ...] = ()
    """Settings to vary, one study each. `seed` trains --preset or --config with several seeds;
    `ablation` sets back, part by part, what --config has otherwise than the report."""
    preset: Literal["hand-tuned", "baseline"] | None = None
    """What is not varied: the report's final settings (the default) or its starting point."""
    config: Path | None = None
    """The same from a YAML file, for example best.yaml of study.export."""
    out: Path | None = None
    """Folder for a picture of each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.vary:
            raise UserError("name at least one setting to --vary")
        if self.config and self.preset:
            raise UserError("give --config or --preset, not both")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise UserError(f"--out must be a folder, got the file {self.out}")


def main() -> None:
    options: Options = command.parse(Options, "study.compare")

    from fer.config import PRESETS, read_config
    from study.factors import FACTORS, values_of
    from study.question import comparing

    begin = time.monotonic()
    if options.out is not None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {options.out}: {error.strerror}") from None
    base = PRESETS[options.preset or "hand-tuned"]
    if options.config:
        base = read_config(options.config)
    named = options.config.stem if options.config else options.preset or "hand-tuned"
    questions = [  # all of them before the first trains, so that mistakes come first
        comparing(named if name == "seed" else name, base, values_of(name, base), options.seeds)
        for name in options.vary
    ]
    for name, question in zip(options.vary, questions, strict=True):
        run_options = options.run_options(len(question.queue), begin)
        if run_options is None:
            print(f"the time is up before {name}; the same command continues")
            return
        compare(options, run_options, question, FACTORS[name])


def compare(
    options: Options, run_options: "RunOptions", question: "Question", factor: "Factor"
) -> None:
    """Train what `question` asks and say what came out."""
    from study.search import conduct

    def conclude(study: "optuna.Study", validation: "Faces") -> None:
        from study.display import own_console
        from study.effects import INTERVALS, effects, effects_table, judge, save_plot
        from study.identity import IDENTITY

        found = effects(study, study.user_attrs[IDENTITY])
        console = own_console()
        console.print(effects_table(found, factor.title, factor.control))
        if factor.claim:
            verdict, why = judge(found, factor.control, factor.rivals)
            console.print(f"the report: {factor.claim}\n{verdict}: {why}", soft_wrap=True)
        if options.out is not None and any(effect.accuracies for effect in found):
            path = options.out / f"{question.name}.png"
            save_plot(found, factor.title, factor.control, path)
            print(f"saved  {command.printable(str(path))}")
        if factor.control:
            print(INTERVALS)

    conduct(run_options, question, conclude)


if __name__ == "__main__":
    command.run(main)
