"""The studies of a database as Markdown with pictures, one section per question."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from fer.strict_json import to_json
from study.analysis import images, importance, race, removed
from study.analysis.answer import answer_of
from study.analysis.comparison import confirmed, effect_rows
from study.analysis.curves import save_curves, seeds_table
from study.analysis.effects import effects
from study.analysis.next_steps import next_steps
from study.analysis.noise import noise_elsewhere
from study.analysis.picture import save_plot
from study.analysis.summary import complete_of, count_endings
from study.analysis.tables import code, markdown
from study.analysis.verdicts import claim, judge
from study.spec import report
from study.spec.faces import is_of_faces
from study.spec.faces import removed as removed_of
from study.spec.identity import IDENTITY, Identity, digest, in_words, kind_of
from study.spec.spec import Kind
from study.storage.records import (
    ORIGIN,
    finished,
    kept,
    other_hardware,
    scored,
    settings_of,
)
from study.storage.studies import COMMAND, current
from study.words import counted

BEST = 5  # trials listed per search
HEAD = (
    "# Results\n\n"
    "Written by `python -m study.results` from a database of studies. Scores are on the "
    "validation images: in studies of format 4 the mean of a run's last three epochs, in older "
    "ones its best epoch, as in the report, which biases every row upwards equally. Standard "
    "errors are over seeds.\n\n"
    "A value is *better* or *worse* than the report's choice, or *not told apart* from it at the "
    "given budget. In brackets is the 95% interval of the difference in points, from one model "
    "per comparison: score = value + seed + residual. The residual is pooled over the values less "
    "than 8 points below the best and moderated by that of the other comparisons on this page "
    "with the same data and budget; values further down are compared by their own differences, "
    "seed by seed. Verdicts and intervals are corrected for the number of values (Hochberg). A "
    "value that diverged is worse. A claim *holds* if all values it is about are worse, and *does "
    "not hold* if one is better. `code` is a hash of what the training code computes; other "
    "changes to the program do not affect it."
)


def render(studies: Sequence[optuna.Study], url: str, out: Path) -> str:
    """Return the page for the studies at `url`; write its pictures to the folder `out`."""
    sections: dict[Kind, list[str]] = {
        kind: [] for kind in (Kind.SEEDS, Kind.SEARCH, Kind.COMPARE)
    }
    classes: dict[str, list[tuple[optuna.Study, Identity]]] = {}
    for study in studies:
        identity = kept(study, IDENTITY)
        match kind_of(identity):
            case Kind.SEARCH:
                sections[Kind.SEARCH].append(search_section(study, identity, studies, url, out))
            case Kind.REMOVED:
                classes.setdefault(common(identity), []).append((study, identity))
            case Kind.SEEDS:
                sections[Kind.SEEDS].append(seeds_section(study, identity, out))
            case _:
                sections[Kind.COMPARE].append(values_section(study, identity, studies, out))
    tables = (removed_section(each, out) for each in classes.values())
    parts = [HEAD, *chain(*sections.values()), *tables]
    return "\n\n".join(parts) + "\n"


def conditions(study: optuna.Study, identity: Identity) -> str:
    """Return the command that created a study, and everything its numbers depend on."""
    command = study.user_attrs.get(COMMAND)
    beside = other_hardware(study.get_trials(deepcopy=False), identity)
    known = {"code": "not stored", "device": "", "kernels": "", "versions": {}, **identity}
    without = removed_of(identity) if is_of_faces(identity) else ()
    words = [
        f"Data {known.get('data', 'not named')}, sha256 {str(known.get('data_sha256'))[:12]}",
        f"without {', '.join(without)}" if without else "",
        counted(known["subset"], "image") if known.get("subset") else "",
        f"{known['holdout']:.0%} of them held out" if known.get("holdout") else "",
        f"{known['split']} split" if known.get("split") else "",
        f"seed of the split: {known['split_seed']}" if "split_seed" in known else "",
        counted(known["epochs"], "epoch"),
        f"code {known['code']}",
        f"{known['device']} {known.get('precision', '')}".strip(),
        f"{known['kernels']} kernels" if known["kernels"] else "",
        *(f"{count} of its trials on {each}" for each, count in beside.items()),
        ", ".join(f"{key} {value}" for key, value in known["versions"].items()),
    ]
    line = f"    {command}" if command else "Created by an older version, which stored no command."
    return f"{line}\n\n{'; '.join(word for word in words if word)}."


def seeds_section(study: optuna.Study, identity: Identity, out: Path) -> str:
    """Return one setting trained with several seeds, next to the report's numbers."""
    name, picture = identity["space"], picture_of(study)
    base = report.described(identity.get("base") or identity["space_definition"]["base"])
    reference = report.CURVES.get(base, {}) if base == name else {}
    save_curves(study, identity.get("metric", "score"), reference, out / picture)
    rows = markdown(seeds_table(study, reference))
    return section(f"Several seeds: {name}", study, identity, out, rows, "", picture)


def values_section(
    study: optuna.Study, identity: Identity, studies: Sequence[optuna.Study], out: Path
) -> str:
    """Return the values of a setting side by side, with a verdict on each and on the claim."""
    found, picture = effects(study, identity), picture_of(study)
    noise = noise_elsewhere(studies, identity)
    variants = identity["space_definition"]["variants"]
    rest = ""
    if kind_of(identity) == Kind.CONFIRM:
        control, title = next(iter(variants)), f"Best of {identity['space_definition']['search']}"
        verdicts = judge(found, control, elsewhere=noise)
        rest = (
            f"**{sentence(confirmed(found, verdicts, control))}**. {race.in_words(study)}".strip()
        )
    else:
        factor = report.FACTORS[identity["space"]]
        control, title = factor.control, sentence(factor.title)
        base = report.described(identity.get("base") or identity["space_definition"]["base"])
        title += f", {base}" if base in report.PRESETS and base != report.HAND_TUNED else ""
        verdicts = judge(found, control, factor.rivals, noise)
        if factor.claim:
            word, why = claim(found, verdicts, control, factor.rivals)
            rest = f"The report: {factor.claim}. **{sentence(word)}**: {why}."
    save_plot(found, title, control, verdicts, out / picture)
    rows = markdown(effect_rows(found, "", control, verdicts))
    rest = f"{rest} {sentence(images.in_words(found, identity))}.".strip()
    return section(title, study, identity, out, rows, rest, picture)


def sentence(words: str) -> str:
    """Return text with its first letter capitalized."""
    return words[:1].upper() + words[1:]


def section(
    title: str,
    study: optuna.Study,
    identity: Identity,
    out: Path,
    rows: str,
    rest: str,
    picture: str,
) -> str:
    """Return a comparison: command, settings, table, verdict and picture."""
    given = identity.get("base") or identity["space_definition"]["base"]
    base, settings = report.described(given), ""
    if is_of_faces(identity) and base not in report.PRESETS:
        file = f"settings-{digest(given)[:6]}.yaml"
        report.write_settings({**given, "epochs": identity["epochs"]}, out / file)
        settings = f"Base `{file}`, which differs from hand-tuned in: {base}."
    parts = [f"## {title}", conditions(study, identity), settings]
    parts += [unfinished(study, identity), rows, rest]
    return "\n\n".join([*(part for part in parts if part), f"![{title}]({picture})"])


def unfinished(study: optuna.Study, identity: Identity) -> str:
    """Return the progress of an unfinished comparison; empty if it is finished."""
    definition = identity["space_definition"]
    total = len(definition["variants"]) * definition["seeds"]
    done = len(finished(study))
    return f"**Unfinished**: {done} of {total} trials." if done < total else ""


def search_section(
    study: optuna.Study, identity: Identity, studies: Sequence[optuna.Study], url: str, out: Path
) -> str:
    """Return the results of a search, next to the settings it began with."""
    trials = scored(study)
    ranked = sorted(trials, key=lambda each: -(each[1].score or 0.0))
    begun = [each for each in trials if each[0].user_attrs.get(ORIGIN)]
    names = list(ranked[0][1].values)[:1]
    rows = [["trial", "score", *names, "epoch", "from", "settings, where not the control's"]]
    for trial, result in [*ranked[:BEST], *(each for each in begun if each not in ranked[:BEST])]:
        rows.append(
            [
                f"{trial.number}{'' if result.ending == 'complete' else f', {result.ending}'}",
                f"{result.score:.4f}",
                *(f"{result.values[name]:.4f}" for name in names),
                str(result.epoch),
                trial.user_attrs.get(ORIGIN, "search"),
                changed(trial, identity),
            ]
        )
    now = current(study) or identity
    how = (
        f"sampler {in_words(now['sampler'])}, pruner {in_words(now['pruner'])}"
        if "sampler" in now
        else "an older version stored neither sampler nor pruner"
    )
    note = f"{count_endings(finished(study))}; {how}. Below: the best {BEST}, then the initial "
    note += "ones."
    parts = [f"## Search: {study.study_name}", conditions(study, identity), note, markdown(rows)]
    complete = complete_of(study)
    if complete:
        parts.append(answer_of(study, studies).words)
        steps = next_steps(study, studies, url)
        parts += [f"Next: {code(line)}." for line in steps if "study.confirm" in line]
    ranges = importance.importances(
        [trial for trial, _ in complete],
        identity["space_definition"],
        np.random.default_rng(identity["seed"]),
    )
    if not ranges:
        parts.append(importance.TOO_FEW)
    else:
        picture = picture_of(study)
        importance.save_plot(ranges, out / picture)
        parts += [importance.HOW, f"![Which settings mattered]({picture})"]
    return "\n\n".join(parts)


def changed(trial: FrozenTrial, identity: Identity) -> str:
    """Return the settings in which a trial differs from its study's base settings."""
    settings = settings_of(trial)
    if is_of_faces(identity):
        return report.described(settings)
    base: Mapping[str, Any] = identity.get("base", {})
    own = (key for key in settings if key not in base or settings[key] != base[key])
    told = {key: settings[key] for key in own if key not in ("epochs", "seed")}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in told.items()
    )


def common(identity: Identity) -> str:
    """Return as text what the studies of one table of removed classes have in common."""
    own = ("space", "classes", "data_sha256")
    return to_json({key: value for key, value in identity.items() if key not in own})


def removed_section(studies: removed.Studies, out: Path) -> str:
    """Return the table of the removed classes, and its picture."""
    study, identity = studies[0]
    title, picture = "Each class removed in turn", picture_of(study)
    removed.save_picture(removed.skills(studies), out / picture)
    table = markdown(removed.removed_table(studies))
    parts = [f"## {title}", conditions(study, identity), removed.CHANCE_IN_WORDS, table]
    return "\n\n".join([*parts, f"![{title}]({picture})"])


def picture_of(study: optuna.Study) -> str:
    """Return a safe and unique file name for a study, whatever its name."""
    plain = re.sub(r"[^\w-]+", "_", study.study_name)
    same = plain == study.study_name
    return f"{plain}{'' if same else f'-{digest(study.study_name)[:6]}'}.png"
