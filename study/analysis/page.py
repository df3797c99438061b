"""A study as one self-contained HTML page."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from study.analysis.importance import HOW, importances, varied
from study.spec.identity import IDENTITY, Identity, is_search
from study.storage.records import CONTINUES, ORIGIN, Result, scored, settings_of
from study.storage.studies import COMMAND, SEARCH_CHANGES

MATTERED = "Which settings mattered"
STYLE = (
    "body{font:15px system-ui;max-width:1500px;margin:2em auto;padding:0 1em}"
    ".wide{overflow-x:auto}table{border-collapse:collapse}"
    "td,th{padding:.2em .6em;text-align:left;border-bottom:1px solid #ddd}"
)
Scored = list[tuple[FrozenTrial, Result]]


def render(study: optuna.Study) -> str:
    """The page's HTML; it loads nothing from the network."""
    identity = study.user_attrs[IDENTITY]
    trials = scored(study)
    complete = [trial for trial, _ in trials if trial.state == TrialState.COMPLETE]
    parts = []
    for number, (title, figure) in enumerate(figures(study, identity, complete).items()):
        figure.update_layout(title=None, template="plotly_white", margin={"t": 30})
        content = figure.to_html(full_html=False, include_plotlyjs=number == 0)
        note = f"<p>{escape(HOW)}</p>" if title == MATTERED else ""
        parts.append(f"<h2>{escape(title)}</h2>{note}<div class=wide>{content}</div>")
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(in_text(value))}</td></tr>"
        for key, value in facts(study, identity).items()
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>{escape(study.study_name)}</title>"
        f"<style>{STYLE}</style><h1>Study {escape(study.study_name)}</h1><table>{rows}</table>"
        f"<p>{escape(scores_in_words(identity))} The best of many trials is flattered by "
        "its selection. Pruned trials were stopped early: the curves and the table have them, the "
        "other plots show complete trials alone.</p>"
        + "".join(parts)
        + "<h2>All finished trials, best first</h2><div class=wide>"
        + trial_table(trials).to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}")
        + "</div>"
    )


def facts(study: optuna.Study, identity: Identity) -> dict[str, Any]:
    """What a reader must know of the study: its command, what it depends on, what changed."""
    known = {key: value for key, value in identity.items() if key != "space_definition"}
    command = study.user_attrs.get(COMMAND)
    changes = study.user_attrs.get(SEARCH_CHANGES)
    return {
        **({"command": command} if command else {}),
        **known,
        **({"changed later": changes} if changes else {}),
    }


def scores_in_words(identity: Identity) -> str:
    """What a study's scores are."""
    if "scored_epochs" not in identity:
        return "Scores are those of each trial's best epoch."
    return f"A score is the mean of a trial's last {identity['scored_epochs']} epochs."


def in_text(value: Any) -> str:
    """A fact as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_text(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(in_text, value))
    return "not set" if value is None else str(value)


def figures(
    study: optuna.Study, identity: Identity, complete: list[FrozenTrial]
) -> Mapping[str, Any]:
    """The page's figures by title."""
    names = varied(complete)  # what does not vary has no place on an axis
    shared = [name for name in names if all(name in trial.params for trial in complete)]
    draw, metric = optuna.visualization, identity.get("metric", "score")
    plots: dict[str, Any] = {
        f"{metric.capitalize()} of each trial, and the best so far": (
            draw.plot_optimization_history(study, target_name=metric)
        ),
        "Every trial, epoch by epoch": draw.plot_intermediate_values(study),
    }
    if names:
        title = f"Each setting against {metric}"
        plots[title] = draw.plot_slice(study, params=names, target_name=metric)
    if len(shared) > 1 and len({trial.value for trial in complete}) > 1:
        plots["Settings that go together"] = draw.plot_parallel_coordinate(
            study, params=shared, target_name=metric
        )
    ranges = {}
    if is_search(identity):  # in a comparison settings vary together
        generator = np.random.default_rng(identity["seed"])
        ranges = importances(complete, identity["space_definition"], generator)
    if ranges:
        low, middle, high = np.array(list(ranges.values())).T
        error = {"array": high - middle, "arrayminus": middle - low}
        bars = go.Bar(x=middle, y=list(ranges), error_x=error, orientation="h")
        axis = {"autorange": "reversed", "automargin": True}
        plots[MATTERED] = go.Figure(bars, {"yaxis": axis, "height": 150 + 22 * len(ranges)})
    return plots


def came_from(trial: FrozenTrial) -> str:
    """Who put in the trial's settings, and which stopped trial it trained on."""
    words = [trial.user_attrs.get(ORIGIN, "search")]
    if CONTINUES in trial.user_attrs:
        words.append(f"second chance of trial {trial.user_attrs[CONTINUES]}")
    return ", ".join(words)


def trial_table(trials: Scored) -> pd.DataFrame:
    """A row a finished trial, the best first: its scores and the settings that vary."""
    settings = [settings_of(trial) for trial, _ in trials]
    names = dict.fromkeys(name for each in settings for name in each)
    differing = [name for name in names if len({str(each.get(name)) for each in settings}) > 1]
    rows = [
        {
            "trial": trial.number,
            "ending": result.ending,
            "score": result.score,
            **result.values,
            "best epoch": result.epoch,
            "its score": result.best,
            "epochs": result.epochs,
            **{name: theirs.get(name) for name in differing},
            "from": came_from(trial),
        }
        for (trial, result), theirs in zip(trials, settings, strict=True)
    ]
    return pd.DataFrame(rows).sort_values("score", ascending=False)
