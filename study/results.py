"""The comparisons of a database on one page: `python -m study.results --out docs/results`."""

import json
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fer import command
from fer.errors import UserError
from study.emotions import CHANCE_IN_WORDS, NOTHING, emotions_table

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.identity import Identity

PAGE = "results.md"
BEST = 5  # trials of a search that are listed


@dataclass(frozen=True)
class Options:
    """Write a page of Markdown and its pictures of every comparison and search in a database: what
    was asked, by which command, on which data and code, what came out, a verdict on the report's
    claim, and which settings mattered in a search.
    """

    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    out: Path = Path("results")
    """Folder to write results.md and its pictures to."""


def main() -> None:
    options: Options = command.parse(Options, "study.results")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out must be a folder, got the file {options.out}")

    import optuna

    from study import storage as store
    from study.identity import IDENTITY, check_format, is_search

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = store.open_to_read(options.storage)
    found = []
    for name in store.storage_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        identity = study.user_attrs.get(IDENTITY)
        if identity and scored(study):
            check_format(name, identity)
            found.append((study, identity))
    if not found:
        raise UserError(
            f"nothing was trained in {store.hidden(options.storage)}; study.compare makes "
            "comparisons, study.run searches"
        )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        sections: dict[str, list[str]] = {"seeds": [], "search": [], "values": []}
        removed: dict[str, list[tuple[optuna.Study, Identity]]] = {}
        for study, identity in found:
            variants = identity["space_definition"].get("variants", {})
            if is_search(identity):
                sections["search"].append(search_section(study, identity, options.out))
            elif list(variants) == [NOTHING]:
                removed.setdefault(common(identity), []).append((study, identity))
            else:
                kind = "seeds" if len(variants) == 1 else "values"
                sections[kind].append(section(study, identity, options.out))
        parts = [HEAD, *chain(*sections.values())]
        parts += [emotions_section(emotions_table(of), of[0][1]) for of in removed.values()]
        (options.out / PAGE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
    print(f"{command.printable(str(options.out / PAGE))}: {len(found)} studies")


HEAD = (
    "# Results\n\n"
    "Written by `python -m study.results` from a database of studies. Accuracies are those of the "
    "validation images at each run's best epoch, as the report counts them: the best of many "
    "epochs is flattered, in every row alike. Standard errors are over seeds. A verdict compares "
    "the report's value with those that its claim is about, seed by seed: 95% t intervals of the "
    "difference in points over the seeds that both have, widened for the number of values; none "
    "where all seeds differ alike. They cover the noise of seeds, not that of the validation "
    "images, which all values share, and they hold for the budget that stands beside them. `code` "
    "is a hash of the training code's files, which no other change of the program touches."
)


def section(study: "optuna.Study", identity: "Identity", out: Path) -> str:
    """What one comparison says, in Markdown; its picture is written to the folder `out`."""
    from fer.config import PRESETS, write_yaml
    from study.commands import base_of, compare_command, conditions, config_file, described
    from study.confirm import in_words
    from study.effects import effect_rows, effects, judge, save_plot
    from study.factors import FACTORS, Factor
    from study.reference import CURVES
    from study.space import HAND_TUNED

    found = effects(study, identity)
    name, base = identity["space"], described(base_of(identity))
    picture = picture_of(study)
    if len(found) == 1:
        from study.curves import save_curves, seeds_table

        reported = CURVES.get(base, {}) if base == name else {}
        save_curves(study, reported, out / picture)
        title, rest = f"Several seeds: {name}", ""
        rows = markdown(seeds_table(study, reported))
    else:
        confirms = identity["space_definition"].get("search")
        factor = FACTORS.get(name, Factor(f"best of {confirms}", {}, HAND_TUNED, ""))
        save_plot(found, factor.title, factor.control, out / picture)
        title = factor.title[0].upper() + factor.title[1:]
        title += ", baseline" if base == "baseline" else ""
        rows, rest = markdown(effect_rows(found, "", factor.control)), ""
        if factor.claim:
            verdict, why = judge(found, factor.control, factor.rivals)
            rest = f"The report: {factor.claim}. **{verdict.capitalize()}**: {why}."
        elif confirms:
            rest = f"**{in_words(found)}**."
    settings = ""
    if base not in PRESETS:
        file = config_file(identity)
        write_yaml({"config": base_of(identity).settings()}, out / file)
        settings = f"`{file}`, where it is not the hand-tuned: {base}."
    line = conditions(identity, compare_command(identity))
    parts = [f"## {title}", line, settings, unfinished(study, identity), rows, rest]
    return "\n\n".join([*(part for part in parts if part), f"![{title}]({picture})"])


def unfinished(study: "optuna.Study", identity: "Identity") -> str:
    """How much of a comparison is still to be trained, if any is."""
    from study import storage as store

    definition = identity["space_definition"]
    total = len(definition["variants"]) * definition["seeds"]
    done = len(store.finished(study))
    return f"**Unfinished**: {done} of {total} trials." if done < total else ""


def scored(study: "optuna.Study") -> "list[FrozenTrial]":
    """The finished trials that reached an accuracy."""
    from study import storage as store

    return [
        trial
        for trial in store.finished(study)
        if trial.user_attrs.get(store.RESULT, {}).get("accuracy") is not None
    ]


def search_section(study: "optuna.Study", identity: "Identity", out: Path) -> str:
    """What a search found, beside the settings it began with, in Markdown."""
    import numpy as np
    from optuna.trial import TrialState

    from study import importance
    from study import storage as store
    from study.commands import conditions, described, search_command
    from study.conclusion import count_endings, verdict
    from study.trial import ending

    trials = scored(study)
    ranked = sorted(trials, key=lambda trial: -trial.user_attrs[store.RESULT]["accuracy"])
    begun = [trial for trial in trials if trial.user_attrs.get(store.ORIGIN)]
    rows = [["trial", "accuracy", "macro-F1", "epoch", "from", "settings, where not hand-tuned"]]
    for trial in [*ranked[:BEST], *(trial for trial in begun if trial not in ranked[:BEST])]:
        result = trial.user_attrs[store.RESULT]
        rows.append(
            [
                f"{trial.number}{'' if ending(trial) == 'complete' else f', {ending(trial)}'}",
                *(f"{result[key]:.4f}" for key in ("accuracy", "macro_f1")),
                str(result["epoch"]),
                trial.user_attrs.get(store.ORIGIN, "search"),
                described(store.config_of(trial)),
            ]
        )
    line = search_command(study.study_name, identity, len(store.finished(study)))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    endings = count_endings(store.finished(study))
    note = (
        f"{endings}; --sampler and --pruner are not stored. Below: the best {BEST}, then what it "
        "began with."
    )
    parts = [f"## Search: {study.study_name}", conditions(identity, line), note, markdown(rows)]
    if complete:
        parts.append(f"**{verdict(complete)}.** The best of many trials is flattered.")
    ranges = importance.importances(complete, np.random.default_rng(identity["seed"]))
    if not ranges:
        parts.append(importance.TOO_FEW)
    else:
        picture = picture_of(study)
        importance.save_plot(ranges, out / picture)
        parts += [importance.HOW, f"![Which settings mattered]({picture})"]
    return "\n\n".join(parts)


def common(identity: "Identity") -> str:
    """What the studies of one table of emotions have in common, as text."""
    own = ("space", "classes", "data_sha256")
    return json.dumps({key: value for key, value in identity.items() if key not in own})


def emotions_section(rows: list[list[str]], identity: "Identity") -> str:
    """The table of the removed classes, in Markdown."""
    from study.commands import conditions, emotions_command

    return "\n\n".join(
        [
            "## Each emotion removed in turn",
            conditions(identity, emotions_command(identity)),
            CHANCE_IN_WORDS,
            markdown(rows),
        ]
    )


def picture_of(study: "optuna.Study") -> str:
    """A file name of its own for a study, whatever a person called it."""
    from study.identity import digest

    plain = re.sub(r"[^\w-]+", "_", study.study_name)
    same = plain == study.study_name
    return f"{plain}{'' if same else f'-{digest(study.study_name)[:6]}'}.png"


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


if __name__ == "__main__":
    command.run(main)
