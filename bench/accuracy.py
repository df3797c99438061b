"""Does the fast path learn as well? `python -m bench.accuracy --seeds 5 --data fer2013.csv`.

Trains the hand-tuned settings with each seed twice: as a study does, and in float32 with PyTorch's
layers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fer import command
from fer.errors import UserError
from fer.files import write_file
from fer.strict_json import to_json


@dataclass(frozen=True)
class Options:
    """Train the report's final settings twice per seed, with the fast and the plain path, and
    compare the best validation accuracies, with a confidence interval of the mean difference."""

    seeds: int = 5
    """Number of seeds; the first is 0."""
    epochs: int = 30
    """Epochs per run."""
    data: Path | None = None
    """FER-2013 in any supported form; by default FER_DATA, ./data, or demo faces."""
    subset: int | None = None
    """Train and validate on a stratified subset of this many images."""
    split: Literal["grouped", "stratified"] = "stratified"
    """How to split off validation images; the report's split is stratified."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on."""
    json: Path | None = None
    """JSON file to write the results to."""

    def __post_init__(self) -> None:
        for name, low in (("seeds", 2), ("epochs", 1), ("subset", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"--{name} must be at least {low}, got {value}")
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise UserError(f"--json must be a file in an existing folder, got {self.json}")


def main() -> None:
    options: Options = command.parse(Options, "bench.accuracy")

    import numpy as np
    from scipy import stats

    from fer import data
    from fer.config import Config
    from fer.training.device import choose, in_words, settle
    from fer.training.fit import Run, progress, together
    from fer.training.memory import reuse_memory

    reuse_memory()
    device = choose(options.device)
    dataset = data.load(options.data)
    sides = data.split(dataset.part("Training"), options.split, options.subset)
    fast = settle(Config(epochs=options.epochs), device)
    plain = fast.model_copy(update={"precision": "float32"})
    print(
        f"{options.seeds} seeds x {options.epochs} epochs of {len(sides[0])} images of "
        f"{dataset.name}, {len(sides[1])} for validation ({options.split} split)\n"
        f"fast   {in_words(device, fast)}\n"
        f"plain  {device}, float32, PyTorch's layers"
    )

    def run(config: Config, seed: int) -> Run:
        seeded = config.model_copy(update={"seed": seed})
        return Run(seeded, sides[0], device, plain=config is plain)

    best: dict[str, list[float]] = {}
    for name, config in (("fast", fast), ("plain", plain)):
        best[name] = [0.0] * options.seeds
        seeds = range(options.seeds)
        # All seeds concurrently on a GPU, sequentially on a CPU.
        groups = [seeds] if device.type == "cuda" else [range(i, i + 1) for i in seeds]
        for group in groups:
            trainings = [progress(run(config, seed), sides[1]) for seed in group]
            for place, epoch in together(trainings):
                seed = group[place]
                best[name][seed] = max(best[name][seed], epoch.accuracy)
                if epoch.number == options.epochs:
                    print(
                        f"{name:6} seed {seed}  best accuracy {best[name][seed]:.4f}", flush=True
                    )
    differences = np.subtract(best["fast"], best["plain"])
    mean, error = differences.mean(), differences.std(ddof=1) / options.seeds**0.5
    low, high = stats.t.interval(0.95, options.seeds - 1, mean, max(error, 1e-12))
    for name, values in best.items():
        print(
            f"{name:6} mean {np.mean(values):.4f}, standard deviation {np.std(values, ddof=1):.4f}"
        )
    verdict = "within noise" if low <= 0 <= high else "beyond noise"
    print(
        f"fast - plain: {100 * mean:+.2f} points, 95% interval [{100 * low:+.2f}, "
        f"{100 * high:+.2f}]: {verdict}"
    )
    if options.json is not None:
        figures: dict[str, Any] = {"best": best, "mean": mean, "interval": [low, high]}
        write_file(options.json, to_json({**vars(options), **figures}, indent=2, default=str))


if __name__ == "__main__":
    command.run(main, lasting=True)
