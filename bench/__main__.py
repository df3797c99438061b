"""Benchmark training pipelines side by side, and the harness's overhead: `python -m bench`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fer import command
from fer.errors import UserError
from fer.files import write_file
from fer.strict_json import to_json

WRITERS = 16


@dataclass(frozen=True)
class Options:
    """Benchmark the training pipelines side by side, and the overhead of the harness."""

    quick: bool = False
    """Fewer rounds; takes less than two minutes on two cores."""
    data: Path | None = None
    """FER-2013 in any supported form; by default FER_DATA, ./data, or demo faces."""
    subset: int | None = None
    """Train and validate on this many images; by default 1200, on a GPU 6000."""
    batch_size: int = 32
    """Batch size of all pipelines."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on."""
    harness: bool = True
    """Also measure storage, samplers and startup."""
    json: Path | None = None
    """JSON file to write the results to."""

    def __post_init__(self) -> None:
        if not 2 <= self.batch_size <= 500:
            raise UserError(f"--batch-size must be from 2 to 500, got {self.batch_size}")
        if self.subset is not None and self.subset < 1:
            raise UserError(f"--subset must be at least 1, got {self.subset}")
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise UserError(f"--json must be a file in an existing folder, got {self.json}")


def main() -> None:
    options: Options = command.parse(Options, "bench")

    from bench.speed import Contestant, measure_speed
    from bench.steps import where_time_goes
    from fer import data
    from fer.config import Config
    from fer.machine import available_cores
    from fer.training.device import choose, settle
    from study.workers.pool import LANES, default_processes

    device = choose(options.device)
    training = data.load(options.data).part("Training")
    # Fewer images than a real epoch, in the proportions of the split.
    count = options.subset or (6000 if device.type == "cuda" else 1200)
    training, validation = data.split(training, "grouped", min(count, len(training)))
    config = settle(Config(batch_size=options.batch_size), device)
    cores = available_cores()
    # One process on a GPU, one per core on a CPU.
    on_gpu = device.type == "cuda"
    processes, lanes = (1, LANES) if on_gpu else (default_processes(), 1)
    contestants = [
        Contestant("(a) the report's pipeline", "report", 1, cores),
        Contestant("(b) a careful plain loop", "plain", 1, cores),
        Contestant("(c) ours, one trial", "ours", 1, cores, config.precision),
        Contestant(
            f"(d) ours, {processes * lanes} trials at once",
            "ours",
            processes,
            1,
            config.precision,
            lanes,
        ),
        Contestant("    ours, one trial in float32", "ours", 1, cores),
    ]
    rounds, epochs = (3, 2) if options.quick else (7, 5)
    print(
        f"{device}, {cores} cores, batch {options.batch_size}, {len(training)} training and "
        f"{len(validation)} validation images, ours in {config.precision}; {rounds} rounds"
    )
    speed = measure_speed(contestants, training, validation, config, device, rounds, epochs)
    print(
        f"\n{'':32}{'images/s':>9}{'range':>14}{'trial-epochs/h':>16}{'ratio to (a)':>22}{'MB':>7}"
    )
    for row in speed:
        images, ratio = row["images_per_second"], row["ratio"]
        print(
            f"{row['name']:32}{images['median']:9.0f}"
            f"{images['low']:8.0f}-{images['high']:<5.0f}{row['trial_epochs_per_hour']:15.0f}"
            f"{ratio['median']:9.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
            f"{row['bytes_per_process'] / 1e6:9.0f}"
        )
    print("images/s counts training images; the time includes validation on a quarter as many")
    steps = where_time_goes(training, validation, device, config.precision, options.quick)

    costs = harness_costs(options) if options.harness else {}
    if options.json is not None:
        figures = {"speed": speed, "steps": steps, "harness": costs}
        write_file(options.json, to_json(figures, indent=2))
        print(f"\nsaved {options.json}")


def harness_costs(options: Options) -> dict[str, Any]:
    """Print and return the time that storage, samplers and startup take."""
    import optuna

    from bench import harness
    from bench.writers import write_together

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    costs: dict[str, Any] = {}
    print(f"\nstorage and pruner, ms per trial of {harness.REPORTS} reports, by number of trials")
    sizes, trials = ([0, 100, 1000], 50) if options.quick else ([0, 100, 1000, 5000], 100)
    print(f"  {'':12}" + "".join(f"{size:>9}" for size in sizes) + "   opening the largest (ms)")
    with tempfile.TemporaryDirectory() as folder, harness.postgresql() as server:
        urls = {"SQLite": f"sqlite:///{folder}/studies.db"}
        if server is not None:
            urls["PostgreSQL"] = server.url
        else:
            print("  PostgreSQL   not measured: pip install -e '.[postgresql]'")
        for name, url in urls.items():
            storage = harness.storage_costs(url, sizes, trials)
            costs[f"storage {name}"] = [vars(cost) for cost in storage]
            print(
                f"  {name:12}"
                + "".join(f"{cost.trial_ms:9.1f}" for cost in storage)
                + f"{storage[-1].opening_ms:15.0f}"
            )
        print(f"\n{WRITERS} concurrent processes on one study: ms per trial, median and maximum")
        for name, url in urls.items():
            writers = write_together(url, WRITERS, 200 if options.quick else 1000)
            times = sorted(second for writer in writers for second in writer.seconds)
            cost = {
                "trials": len(times),
                "median_ms": 1000 * times[len(times) // 2],
                "slowest_ms": 1000 * times[-1],
                "waits": sum(writer.waits for writer in writers),
            }
            costs[f"{WRITERS} writers {name}"] = cost
            print(f"  {name:12}{cost['median_ms']:9.0f}{cost['slowest_ms']:9.0f}")
    print("\nsampler, ms per proposal, by number of trials")
    counts = (10, 100, 1000) if options.quick else (10, 100, 1000, 5000)
    print(f"  {'':12}" + "".join(f"{count:>9}" for count in counts))
    for sampler in ("tpe", "random"):
        times = [harness.sampler_cost(sampler, count) for count in counts]
        costs[f"sampler_ms_{sampler}"] = dict(zip(counts, times, strict=True))
        print(f"  {sampler:12}" + "".join(f"{each:9.1f}" for each in times))
    costs["help_seconds"] = harness.help_seconds()
    images = ["--data", str(options.data.resolve())] if options.data else []
    costs["first_epoch_seconds"] = harness.first_epoch_seconds(images)
    print("\nstartup (s)")
    print(f"  study.run --help          {costs['help_seconds']:.2f}")
    print(f"  command to first epoch    {costs['first_epoch_seconds']:.1f}")
    return costs


if __name__ == "__main__":
    command.run(main, lasting=True)
