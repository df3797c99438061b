"""Progress of a running study: live on a terminal, plain lines on a pipe.

On a terminal each trial is one line, cut to the terminal's width.
"""

from collections.abc import Callable
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fer.output import wrapped
from study.engine.ending import Finished
from study.engine.eta import Forecast
from study.pipeline import Epoch, Only, Settings, Space
from study.storage.records import Ending, Result
from study.words import counted, describe_duration

STYLE = {
    Ending.COMPLETE: "green",
    Ending.PRUNED: "yellow",
    Ending.DIVERGED: "red",
    Ending.OUT_OF_MEMORY: "red",
    Ending.OUT_OF_RACE: "yellow",
    Ending.FAILED: "bold red",
}

HANG = 7  # hanging indent of wrapped lines: the width of "plan   "
WIDE = 110  # minimum width in columns at which a trial's line names its best epoch


class Display:
    """Shows progress over `total` trials of up to `epochs` epochs whose settings vary in `space`.

    Without a total, shows progress over `limit`, the epochs that all trials may train together. A
    `search` also shows the best trial; a comparison does not, because it would be the luckiest
    seed. Use as a context manager.
    """

    def __init__(
        self, total: int | None, limit: int | None, epochs: int, space: Space, search: bool = True
    ) -> None:
        self._total, self._limit, self._epochs = total, limit, epochs
        self._done, self._spent = 0, 0
        self._best: tuple[float, int] | None = None  # score and trial
        self._search = search
        self._settings = line_format(space)
        # Print text as is: no markup in [brackets], no :emoji:, no highlighted numbers.
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._running: dict[int, tuple[int, list[Epoch]]] = {}
        self._forecast: Forecast | None = None  # set once the workers' speed is known
        self._status = ""
        self._held: int | None = None
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()  # always: the terminal may be gone by now

    def so_far(self, done: int, spent: int) -> None:
        """Set the study's finished trials and trained epochs, including other processes'."""
        self._done, self._spent = done, spent

    def better(self, score: float, trial: int) -> None:
        """Record a complete trial of a search as the best if its score is higher."""
        if self._search and (self._best is None or score > self._best[0]):
            self._best = score, trial

    def expect(self, forecast: Forecast) -> None:
        """Use this forecast for the time left."""
        self._forecast = forecast

    def spare(self, trials: int) -> None:
        """Record that this many of the trials left will not be trained."""
        if self._forecast is not None:
            self._forecast.spare(trials)

    def crew(self, lanes: int, text: str) -> None:
        """Record that workers joined or left, so that `lanes` trials now run at once."""
        if self._forecast is not None:
            self._forecast.workers = lanes
        if text:
            self.print(f"       {text}")

    @property
    def _width(self) -> int | None:
        """Columns of the terminal, or None on a pipe, where lines are not wrapped."""
        return self._console.width if self._console.is_terminal else None

    def print(self, line: str | Text) -> None:
        """Print a permanent line."""
        if isinstance(line, str):
            line = "\n".join(wrapped(each, self._width, HANG) for each in line.split("\n"))
        self._console.print(line, soft_wrap=True)

    def say(self, status: str) -> None:
        """Show what the study waits for; on a pipe, print each new status once."""
        if status and status != self._status and not self._console.is_terminal:
            self.print(f"       {status}")
        self._status = status

    def holds(self, trial: int | None) -> None:
        """Show the trial that waits until it fits next to the running ones, or None."""
        self._held = trial

    def started(self, worker: int, trial: int) -> None:
        """Record that a trial started."""
        self._status = ""
        self._running[worker] = trial, []

    def epochs(self, worker: int, epochs: list[Epoch], resumed: bool) -> None:
        """Record a trial's new epochs, or with `resumed` those of an earlier run."""
        self._running[worker][1].extend(epochs)
        if self._forecast is not None and not resumed:
            for epoch in epochs:
                self._forecast.epoch(epoch.seconds)

    def left(self, worker: int) -> None:
        """Record that a worker's trial no longer runs."""
        del self._running[worker]

    def finished(self, trial: Finished) -> None:
        """Record a finished trial and print its line."""
        if trial.ending != Ending.FAILED:
            self._done += 1
            if self._forecast is not None and trial.trained:
                self._forecast.finished(trial.result.epochs)
        if trial.ending == Ending.COMPLETE and trial.result.score is not None:
            self.better(trial.result.score, trial.number)
        line = self._line(trial)
        left_out = self._width is not None and trial.remark not in line.plain
        self.print(line)
        if left_out:  # the remark may say why the trial failed: never truncate it
            self.print(f"       {trial.remark}")

    def waiting(self, reason: str, seconds: float) -> None:
        """Show that the database has been unreachable for this long."""
        if not seconds:
            self.print(f"       waiting for the storage: {reason}")
        self._status = f"waiting for the storage for {seconds:.0f} s: {reason}"
        self.tick()

    def tick(self) -> None:
        """Redraw the live part."""
        if self._console.is_terminal:
            self._live.update(self._live_part(), refresh=True)

    def _seconds_left(self) -> float | None:
        """Seconds until the study ends, or None if not yet known."""
        if self._forecast is None:
            return None
        return self._forecast.seconds_left([len(epochs) for _, epochs in self._running.values()])

    def _line(self, trial: Finished) -> Text:
        """Return a trial's line: its outcome and as many of its settings as fit."""
        result, width = trial.result, self._width
        line = Text(f"trial {trial.number:<4} ")
        line.append(f"{trial.ending:8} ", STYLE[trial.ending])
        if result.score is not None:
            line.append(f"{result.score:.4f}", "bold" if trial.ending == "complete" else "")
            line.append(f"  {self._reached(result)}")
        line.append(f"  {result.seconds:3.0f} s")
        rest = self._rest(trial)
        if trial.remark:
            beside = f"  {trial.remark}"
            if width is None or line.cell_len + len(beside) + rest.cell_len <= width:
                rest = Text(beside).append_text(rest)
        if self._search:  # a comparison names the variant in `rest`
            room = None if width is None else width - line.cell_len - rest.cell_len
            line.append(self._settings(trial.settings, room))
        line.append_text(rest)
        if width is not None:
            line.truncate(width, overflow="ellipsis")
        return line

    def _reached(self, result: Result) -> str:
        """Return the epochs of a trial and, on a wide terminal, the best one."""
        if self._width is not None and self._width < WIDE:
            epochs = counted(self._epochs, "epoch")
            return counted(result.epochs, "epoch").ljust(len(epochs))
        most = f"best 0.0000 (epoch {self._epochs} of {self._epochs})"
        best = f"best {result.best:.4f} (epoch {result.epoch} of {result.epochs})"
        return best.ljust(len(most))

    def _rest(self, trial: Finished) -> Text:
        """Return the end of a trial's line: its origin or variant, and the study's progress."""
        rest = Text()
        if trial.origin:
            rest.append(f"  [{trial.origin}]" if self._search else f"  {trial.origin}", "cyan")
        if self._best is not None and self._best[1] == trial.number:
            rest.append("  best so far", "bold green")
        if self._width is None:
            rest.append(f"  | {self._progress()}")
        return rest

    def _progress(self) -> str:
        left = self._seconds_left()
        best = f", best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else ""
        ended = self._total is not None and self._done >= self._total
        waiting = f", {describe_duration(left)} left" if left is not None and not ended else ""
        of = "" if self._total is None else f"/{self._total}"
        epochs = "" if self._limit is None else f", {self._spent}/{self._limit} epochs"
        return f"{self._done}{of} trials{epochs}{waiting}{best}"

    def _live_part(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        done, total = self._done, self._total
        if total is None:
            done, total = self._spent, self._limit
        grid.add_row(
            ProgressBar(total=total, completed=done, width=20),
            Text(self._status or self._progress(), "bold"),
        )
        rows: list[Table | Text] = [grid]
        for lane, (trial, epochs) in sorted(self._running.items()):
            row = Table.grid(padding=(0, 1))
            now = min(len(epochs) + 1, self._epochs)
            text = f"worker {lane}: trial {trial}, epoch {now}/{self._epochs}"
            if epochs:
                text += f", score {epochs[-1].score:.4f}, {epochs[-1].seconds:.1f} s an epoch"
            row.add_row(
                ProgressBar(total=self._epochs, completed=len(epochs), width=12), Text(text, "dim")
            )
            rows.append(row)
        if self._held is not None:
            rows.append(Text(f"trial {self._held} waits until it fits next to these", "dim"))
        return Group(*rows)


def line_format(space: Space) -> Callable[[Settings, int | None], str]:
    """Return a function that formats the varied settings in fixed-width columns.

    It takes the settings and the available width, and drops the columns that do not fit; None is
    no limit. Words stand alone; numbers and switches are preceded by their names.
    """
    settings: dict[str, BaseDistribution] = {}
    for name, kind in space.items():
        if isinstance(kind, Only):
            settings.setdefault(kind.setting, kind.distribution)
        else:
            settings[name] = kind
    widths = {name: max(map(len, _cells(name, kind))) for name, kind in settings.items()}

    def line(values: Settings, room: int | None) -> str:
        text = ""
        for name, width in widths.items():
            cell = _cell(name, values[name]) if name in values else ""
            if room is not None and len(text) + 2 + width > room:
                break
            text += f"  {cell:{width}}"
        return text

    return line


def _cells(name: str, distribution: BaseDistribution) -> list[str]:
    """Return cells that include the widest one of a setting."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return [_cell(name, choice) for choice in choices]
        case IntDistribution(low=low, high=high):
            return [_cell(name, low), _cell(name, high)]
    return [_cell(name, 1.2e-05)]


def _cell(name: str, value: Any) -> str:
    match value:
        case str():
            return value
        case float():
            return f"{name} {value:.2g}"
    return f"{name} {value}"
