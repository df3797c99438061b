"""Combined results of training with several seeds."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer.command import printable
from fer.errors import UserError
from fer.files import write_file
from fer.one_run import SCORED
from fer.pages import card
from fer.runs import Plan, read_scores

TABLE = "seeds.csv"
COLUMNS = ("accuracy", "macro_f1", "balanced_accuracy")


@dataclass(frozen=True)
class Together:
    """Scores of several runs: mean, standard error and 95% interval over seeds (Student's t), and
    standard deviation (`spread`). All but the mean are NaN for a single run."""

    scores: tuple[float, ...]
    mean: float
    error: float
    low: float
    high: float
    spread: float


def together(scores: Iterable[float]) -> Together:
    """Summarise one or more scores."""
    found = tuple(scores)
    mean, count = statistics.fmean(found), len(found)
    if count < 2:
        return Together(found, mean, *[math.nan] * 4)
    from scipy import stats

    spread = statistics.stdev(found)
    low, high = stats.ttest_1samp(found, 0).confidence_interval()
    return Together(found, mean, spread / math.sqrt(count), float(low), float(high), spread)


def check_folder(out: Path, plans: dict[Path, Plan]) -> None:
    """Raise UserError if the folder contains anything but runs with seeds."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out must be a folder: {out}")
    for path in sorted(out.iterdir()):
        own = path in plans or path.name == TABLE or path.suffix == ".part"
        if not own and not (path.is_dir() and path.name.startswith("seed-")):
            raise UserError(
                f"--out must be a new folder, or that of the same command, so that no run is "
                f"lost: {path}"
            )


def report(out: Path, plans: dict[Path, Plan], trained: Sequence[Path]) -> None:
    """Print the runs' combined result, save it as a table, and add it to their model cards.

    The runs in the folders `trained` did not diverge. Raises UserError if all others did, a table
    of epochs cannot be read, or a file cannot be written.
    """
    diverged = [str(plan.config.seed) for folder, plan in plans.items() if folder not in trained]
    if not trained:
        raise UserError(f"every seed diverged ({', '.join(diverged)}): {out}")
    lost = f"{len(diverged)} of {len(plans)} seeds ({', '.join(diverged)}): no model"
    count = f"{len(trained)} model{'' if len(trained) == 1 else 's'}"
    if next(iter(plans.values())).data.whole:
        print(f"\nscore       none for {count}: there are no validation images")
        if diverged:
            print(f"diverged    {lost}")
        return
    rows = {
        plan.config.seed: [statistics.fmean(read_scores(folder, name, SCORED)) for name in COLUMNS]
        for folder, plan in plans.items()
        if folder in trained
    }
    table = io.StringIO()
    csv.writer(table).writerows(
        [("seed", *COLUMNS), *((seed, *row) for seed, row in rows.items())]
    )
    write_file(out / TABLE, table.getvalue())
    found = together(row[0] for row in rows.values())
    lines = in_words(found)
    if diverged:
        lines["diverged"] = lost
    print()
    for seed, row in rows.items():
        print(f"seed {seed:<7}{row[0]:.4f}, macro-F1 {row[1]:.4f}, balanced {row[2]:.4f}")
    for name, words in lines.items():
        print(f"{name:12}{words}")
    first = trained[0]
    print(f"            do not select one by score: use the first, {printable(str(first))}")
    print(f"saved       {printable(str(out / TABLE))}")
    words = " ".join(f"{name.capitalize()}: {text}." for name, text in lines.items())
    for folder in trained:
        if (folder / card.FILE).exists():  # the user may have deleted it
            card.add(
                folder,
                "seeds",
                f"### With other seeds\n\n{words} This model was not selected by its score.",
            )


def in_words(found: Together) -> dict[str, str]:
    """Describe mean and spread of the scores."""
    count = len(found.scores)
    if count < 2:
        return {"score": f"{found.mean:.4f}, of one seed: the spread between seeds is unknown"}
    interval = f"[{found.low:.4f}, {found.high:.4f}]"
    if found.low < 0 or found.high > 1:  # impossible for an accuracy
        interval = "[too few seeds]"
    return {
        "score": f"{found.mean:.4f}, the mean of {count} seeds; standard error {found.error:.4f}, "
        f"95% {interval} over seeds, on the same validation images",
        "spread": f"{found.spread:.4f} (standard deviation), from {min(found.scores):.4f} to "
        f"{max(found.scores):.4f}",
    }
