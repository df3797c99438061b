"""What a person sees of a running study: live on a terminal, plain lines on a pipe."""

from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.trial import TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fer.config import Config
from fer.fit import Epoch
from study import storage as store
from study.forecast import Forecast
from study.run import Options
from study.space import HAND_MADE, HAND_TUNED

SHOWN = (
    "optimizer",
    "lr",
    "batch_size",
    "fc_width",
    "pool1",
    "pool2",
    "pool3",
    "output_activation",
)
STYLE = {"complete": "green", "pruned": "yellow", "diverged": "red"}


@dataclass(frozen=True)
class Finished:
    """A finished trial, as the display tells it."""

    number: int
    state: Literal["complete", "pruned", "diverged"]
    accuracy: float  # the best over its epochs
    epoch: int  # of the best accuracy
    epochs: int
    config: Config
    origin: str
    seconds: float


class Display:
    """Progress over `total` trials. Use as a context manager."""

    def __init__(
        self, total: int, finished: int, epochs: int, best: tuple[float, int] | None
    ) -> None:
        self.total, self.done, self.full = total, finished, epochs
        self.best = best  # accuracy and trial
        self.console = Console(highlight=False)
        self.running: dict[int, tuple[int, list[Epoch]]] = {}
        self.forecast: Forecast | None = None  # once the workers' pace is known
        self.status = ""
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def print(self, line: str | Text) -> None:
        """A line that stays."""
        self.console.print(line, soft_wrap=True)

    def note(self, status: str) -> None:
        """What it is doing now."""
        self.status = status
        self.tick()

    def started(self, worker: int, trial: int) -> None:
        self.status = ""
        self.running[worker] = trial, []

    def epoch(self, worker: int, epoch: Epoch) -> None:
        self.running[worker][1].append(epoch)
        if self.forecast is not None:
            self.forecast.epoch(epoch.seconds)

    def finished(self, worker: int, trial: Finished) -> None:
        del self.running[worker]
        self.done += 1
        if self.forecast is not None:
            self.forecast.finished(trial.epochs)
        if trial.state == "complete" and (self.best is None or trial.accuracy > self.best[0]):
            self.best = trial.accuracy, trial.number
        self.print(self._line(trial))

    def tick(self) -> None:
        """Redraw the live part."""
        if self.console.is_terminal:
            self.live.update(self._live(), refresh=True)

    def seconds_left(self) -> float | None:
        """Until the study ends; None before it is known."""
        if self.forecast is None:
            return None
        return self.forecast.seconds_left([len(epochs) for _, epochs in self.running.values()])

    def _line(self, trial: Finished) -> Text:
        line = Text(f"trial {trial.number:<4} ")
        line.append(f"{trial.state:9}", STYLE[trial.state])
        line.append(f"{trial.accuracy:.4f}", "bold" if trial.state == "complete" else "")
        line.append(f" at epoch {trial.epoch}/{trial.epochs}  {settings_line(trial.config)}")
        line.append(f"  {trial.seconds:.0f} s")
        if trial.origin:
            line.append(f"  [{trial.origin}]", "cyan")
        if self.best is not None and self.best[1] == trial.number:
            line.append("  best so far", "bold green")
        if not self.console.is_terminal:
            line.append(f"  | {self._progress()}")
        return line

    def _progress(self) -> str:
        left = self.seconds_left()
        best = f", best {self.best[0]:.4f} (trial {self.best[1]})" if self.best else ""
        waiting = "" if left is None else f", {describe_duration(left)} left"
        return f"{self.done}/{self.total} trials{waiting}{best}"

    def _live(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=self.total, completed=self.done, width=30),
            Text(self.status or self._progress(), "bold"),
        )
        rows = [grid]
        for worker, (trial, epochs) in sorted(self.running.items()):
            row = Table.grid(padding=(0, 1))
            text = f"worker {worker}: trial {trial}, epoch {len(epochs) + 1}/{self.full}"
            if epochs:
                text += (
                    f", accuracy {epochs[-1].accuracy:.4f}, {epochs[-1].seconds:.1f} s an epoch"
                )
            row.add_row(
                ProgressBar(total=self.full, completed=len(epochs), width=12), Text(text, "dim")
            )
            rows.append(row)
        return Group(*rows)


def settings_line(config: Config) -> str:
    """The main settings in a fixed width, in the order of the card."""
    pools = "-".join(pool[:3] for pool in (config.pool1, config.pool2, config.pool3))
    return (
        f"{config.optimizer:8}lr {config.lr:.1e}  batch {config.batch_size:<4}"
        f"width {config.fc_width:<4}{pools}  {config.output_activation:8}"
    )


def describe_duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 10 * 60:
        minutes, rest = divmod(round(seconds, -1), 60)
        return f"{minutes:.0f} min {rest:.0f} s" if rest else f"{minutes:.0f} min"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def summary(study: optuna.Study, validation_images: int) -> None:
    """The best trial beside the report's final settings."""
    console = Console(highlight=False)
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials]
    diverged = sum(
        trial.state == TrialState.PRUNED
        and trial.user_attrs.get(store.RESULT, {}).get("diverged", False)
        for trial in trials
    )
    console.print(
        f"\n{states.count(TrialState.COMPLETE)} trials complete, "
        f"{states.count(TrialState.PRUNED)} pruned ({diverged} of them diverged)"
    )
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        console.print("no trial ran to its end yet, so there is no best one")
        return
    best = max(complete, key=lambda trial: trial.value or 0.0)
    hand = next(
        (trial for trial in complete if trial.user_attrs.get(store.ORIGIN) == HAND_TUNED), None
    )
    columns = {f"best: trial {best.number}": best}
    if hand is not None:
        columns[f"the report's settings: trial {hand.number}"] = hand
    table = Table("", *columns, header_style="bold")
    results = [trial.user_attrs[store.RESULT] for trial in columns.values()]
    for label, key in (
        ("validation accuracy", "accuracy"),
        ("macro-F1", "macro_f1"),
        ("balanced accuracy", "balanced_accuracy"),
    ):
        table.add_row(label, *(f"{result[key]:.4f}" for result in results))
    table.add_row("epoch", *(f"{r['epoch']} of {r['epochs']}" for r in results), end_section=True)
    settings: list[dict[str, Any]] = [t.user_attrs[store.CONFIG] for t in columns.values()]
    differing = [key for key in settings[0] if len({str(each[key]) for each in settings}) > 1]
    for key in dict.fromkeys((*SHOWN, *differing)):
        table.add_row(
            key,
            *(f"{each[key]:.3g}" if key == "lr" else str(each[key]) for each in settings),
        )
    console.print(table)
    value = best.value or 0.0
    error = (value * (1 - value) / validation_images) ** 0.5
    if best.user_attrs.get(store.ORIGIN) in HAND_MADE:
        verdict = (
            "The best is one of the report's own settings: the search has not beaten the hand"
        )
    else:
        by_hand = [t.value or 0.0 for t in complete if t.user_attrs.get(store.ORIGIN) in HAND_MADE]
        gain = 100 * (value - max(by_hand, default=0.0))
        verdict = f"The search beat the best of the report's settings by {gain:.2f} points"
    console.print(
        f"{verdict}; one standard error is {100 * error:.2f} points "
        f"({validation_images} validation images).\n"
        "The best of many trials is flattered by its selection: the test split decides.",
        soft_wrap=True,
    )


def next_commands(study: optuna.Study, options: Options) -> None:
    """The commands that make a model of the study's best trial."""
    default = options.storage == store.DEFAULT_URL
    where = "" if default else f" --storage {store.hidden(options.storage)}"
    images = f" --data {options.data}" if options.data else ""
    images += f" --split {options.split}" if options.split != "grouped" else ""
    removed = f" --remove {' '.join(options.remove)}" if options.remove else ""
    test = f" --data {options.data}" if options.data else ""
    print(
        "\nnext:\n"
        f"  python -m study.export --study {study.study_name}{where} --out best.yaml\n"
        f"  python -m fer.train --config best.yaml --out runs/final{images}{removed}\n"
        f"  python -m fer.evaluate runs/final{test}\n"
        f"  optuna-dashboard {store.hidden(options.storage)}"
    )
