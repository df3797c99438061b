"""A study on one page: `python -m study.report --out study.html`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer import command
from fer.errors import UserError

if TYPE_CHECKING:
    import optuna

MATTERED = "Which settings mattered"


@dataclass(frozen=True)
class Options:
    """Write one self-contained HTML page with a study's history, curves, settings and scores."""

    study: str | None = None
    """Name of the study; by default the one that was worked on last."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    out: Path = Path("study.html")
    """File to write."""


def main() -> None:
    options: Options = command.parse(Options, "study.report")

    import optuna
    from optuna.trial import TrialState

    from study import storage as store
    from study.identity import IDENTITY

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = store.load_study(options.storage, options.study)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2 or IDENTITY not in study.user_attrs:
        raise UserError(
            f"a report needs at least 2 complete trials, study {study.study_name!r} has "
            f"{len(complete)}"
        )
    page = render(study)
    try:
        options.out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {options.out}: {error.strerror}") from None
    print(f"{options.out}: study {study.study_name}, {len(store.finished(study))} trials")


def render(study: "optuna.Study") -> str:
    """The page's HTML; it loads nothing from the network."""
    from html import escape

    import numpy as np
    import optuna
    import pandas as pd
    import plotly.graph_objects as go
    from optuna.trial import TrialState

    from study import storage as store
    from study.identity import IDENTITY, is_search
    from study.importance import HOW, importances, varied
    from study.trial import ending

    trials = [trial for trial in store.finished(study) if store.RESULT in trial.user_attrs]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    names = varied(complete)  # what does not vary has no place on an axis
    shared = [name for name in names if all(name in trial.params for trial in complete)]
    draw, score = optuna.visualization, "validation accuracy"
    plots: dict[str, Any] = {
        "Accuracy of each trial, and the best so far": draw.plot_optimization_history(
            study, target_name=score
        ),
        "Every trial, epoch by epoch": draw.plot_intermediate_values(study),
    }
    if names:
        plots["Each setting against accuracy"] = draw.plot_slice(
            study, params=names, target_name=score
        )
    if len(shared) > 1 and len({trial.value for trial in complete}) > 1:
        plots["Settings that go together"] = draw.plot_parallel_coordinate(
            study, params=shared, target_name=score
        )
    identity = study.user_attrs[IDENTITY]
    ranges = {}
    if is_search(identity):  # in a comparison settings vary together
        ranges = importances(complete, np.random.default_rng(identity["seed"]))
    if ranges:
        low, middle, high = np.array(list(ranges.values())).T
        error = {"array": high - middle, "arrayminus": middle - low}
        bars = go.Bar(x=middle, y=list(ranges), error_x=error, orientation="h")
        axis = {"autorange": "reversed", "automargin": True}
        plots[MATTERED] = go.Figure(bars, {"yaxis": axis, "height": 150 + 22 * len(ranges)})
    figures = []
    for number, (title, figure) in enumerate(plots.items()):
        figure.update_layout(title=None, template="plotly_white", margin={"t": 30})
        content = figure.to_html(full_html=False, include_plotlyjs=number == 0)
        note = f"<p>{escape(HOW)}</p>" if title == MATTERED else ""
        figures.append(f"<h2>{escape(title)}</h2>{note}<div class=wide>{content}</div>")
    rows = [
        {
            "trial": trial.number,
            "ending": ending(trial),
            **{
                key: trial.user_attrs[store.RESULT][key]
                for key in ("accuracy", "macro_f1", "balanced_accuracy", "epoch", "epochs")
            },
            **{
                key: trial.user_attrs[store.CONFIG][key]
                for key in ("optimizer", "lr", "batch_size", "fc_width", "pool1", "pool2", "pool3")
            },
            "output": trial.user_attrs[store.CONFIG]["output_activation"],
            "from": trial.user_attrs.get(store.ORIGIN, "search"),
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows).sort_values("accuracy", ascending=False)
    facts = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>"
        for key, value in identity.items()
        if key != "space_definition"
    )
    return (
        "<!doctype html><meta charset='utf-8'>"
        f"<title>{escape(study.study_name)}</title>"
        "<style>body{font:15px system-ui;max-width:1500px;margin:2em auto;padding:0 1em}"
        ".wide{overflow-x:auto}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;text-align:left;"
        "border-bottom:1px solid #ddd}</style>"
        f"<h1>Study {escape(study.study_name)}</h1><table>{facts}</table>"
        "<p>Scores are those of the validation images at each trial's best epoch. The best of "
        "many trials is flattered by its selection. Pruned trials were stopped early: the curves "
        "and the table have them, the other plots show complete trials alone.</p>"
        + "".join(figures)
        + "<h2>All finished trials, best first</h2>"
        + "<div class=wide>"
        + table.to_html(index=False, border=0, float_format=lambda value: f"{value:.4g}")
        + "</div>"
    )


if __name__ == "__main__":
    command.run(main)
