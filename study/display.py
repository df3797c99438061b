"""What a person sees of a running study: live on a terminal, plain lines on a pipe."""

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fer.config import Config
from fer.training.fit import Epoch
from study.forecast import Forecast
from study.trial import Finished

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
STYLE = {
    "complete": "green",
    "pruned": "yellow",
    "diverged": "red",
    "out of memory": "red",
    "failed": "bold red",
}


WIDE = 160  # columns of a table that is written to a file


def own_console() -> Console:
    """The terminal; where the output goes elsewhere, one on which tables need not fold."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


class Display:
    """Progress over `total` trials; of a search with its best one, of values that are compared
    without, since that would be the luckiest seed. Use as a context manager."""

    def __init__(
        self, total: int, epochs: int, best: tuple[float, int] | None, search: bool = True
    ) -> None:
        self.total, self.done, self.full = total, 0, epochs
        self.best = best if search else None  # accuracy and trial
        self.search = search
        self.console = Console(highlight=False)
        self.running: dict[int, tuple[int, list[Epoch]]] = {}
        self.forecast: Forecast | None = None  # once the workers' pace is known
        self.status = ""
        self.held: int | None = None  # a trial that waits until it fits beside the others
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
        try:
            self.console.print(line, soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError:  # a log on a full disk is no reason to stop training
            self.status = "the output cannot be written"

    def note(self, status: str) -> None:
        """What it is doing now."""
        self.status = status
        self.tick()

    def say(self, status: str) -> None:
        """What it waits for; told once where nobody sees the live part."""
        if status and status != self.status and not self.console.is_terminal:
            self.print(f"       {status}")
        self.status = status

    def started(self, worker: int, trial: int) -> None:
        self.status = ""
        self.running[worker] = trial, []

    def epochs(self, worker: int, epochs: list[Epoch]) -> None:
        """A trial trained; more than one epoch at once it had behind it from an earlier run."""
        self.running[worker][1].extend(epochs)
        if self.forecast is not None and len(epochs) == 1:
            self.forecast.epoch(epochs[0].seconds)

    def left(self, worker: int) -> None:
        """A worker's trial runs no more."""
        del self.running[worker]

    def finished(self, trial: Finished) -> None:
        if trial.ending != "failed":
            self.done += 1
            if self.forecast is not None and trial.trained:
                self.forecast.finished(trial.epochs)
        accuracy = trial.accuracy or 0.0
        complete = self.search and trial.ending == "complete"
        if complete and (self.best is None or accuracy > self.best[0]):
            self.best = accuracy, trial.number
        self.print(self._line(trial))

    def waiting(self, reason: str, seconds: float) -> None:
        """The database is away."""
        if not seconds:
            self.print(f"       waiting for the storage: {reason}")
        self.note(f"waiting for the storage for {seconds:.0f} s: {reason}")

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
        line.append(f"{trial.ending:9}", STYLE[trial.ending])
        if trial.accuracy is not None:
            line.append(f"{trial.accuracy:.4f}", "bold" if trial.ending == "complete" else "")
            line.append(f" at epoch {trial.epoch}/{trial.epochs} ")
        line.append(f" {settings_line(trial.config)}  {trial.seconds:.0f} s")
        if trial.remark:
            line.append(f"  {trial.remark}")
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
        waiting = (
            "" if left is None or self.done == self.total else f", {describe_duration(left)} left"
        )
        return f"{self.done}/{self.total} trials{waiting}{best}"

    def _live(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=self.total, completed=self.done, width=30),
            Text(self.status or self._progress(), "bold"),
        )
        rows: list[Table | Text] = [grid]
        for lane, (trial, epochs) in sorted(self.running.items()):
            row = Table.grid(padding=(0, 1))
            now = min(len(epochs) + 1, self.full)
            text = f"worker {lane}: trial {trial}, epoch {now}/{self.full}"
            if epochs:
                text += (
                    f", accuracy {epochs[-1].accuracy:.4f}, {epochs[-1].seconds:.1f} s an epoch"
                )
            row.add_row(
                ProgressBar(total=self.full, completed=len(epochs), width=12), Text(text, "dim")
            )
            rows.append(row)
        if self.held is not None:
            rows.append(Text(f"trial {self.held} waits until it fits beside these", "dim"))
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


def counted(count: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
