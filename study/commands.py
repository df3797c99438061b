"""The command that makes a study, and what its numbers depend on, in words."""

import shlex
from typing import Any

from fer.config import EMOTIONS, PRESETS, Config
from study.identity import Identity, digest, is_search
from study.question import SETTLED
from study.space import HAND_TUNED


def conditions(identity: Identity, line: str) -> str:
    """The command `line`, and all that the numbers depend on, in Markdown."""
    older: Identity = {"code": "not kept", "device": "", "kernels": "", "versions": {}}
    kept = older | identity
    words = [
        f"Data {kept['data']}, sha256 {kept['data_sha256'][:12]}",
        f"without {', '.join(removed(identity))}" if removed(identity) else "",
        f"code {kept['code']}",
        f"{kept['device']} {kept['precision']}".strip(),
        f"{kept['kernels']} kernels" if kept["kernels"] else "",
        ", ".join(f"{key} {value}" for key, value in kept["versions"].items()),
    ]
    return f"    {line}\n\n{'; '.join(word for word in words if word)}."


def search_command(name: str, identity: Identity, trials: int) -> str:
    """The command that brings a search to so many trials."""
    seed = f" --seed {identity['seed']}" if identity["seed"] else ""
    return (
        f"python -m study.run --study {shlex.quote(name)} --space {identity['space']} "
        f"--trials {trials}{_images(identity)}{_budget(identity)}{seed}"
    )


def compare_command(identity: Identity) -> str:
    """The command that trains a comparison; settings from a file are spelled out beside it."""
    definition = identity["space_definition"]
    if "search" in definition:
        whole = "" if identity["subset"] else " --whole"
        return (
            f"python -m study.confirm --study {shlex.quote(definition['search'])} "
            f"--top {definition['top']}{_images(identity)} --epochs {identity['epochs']}{whole}"
            f"{_seeds(identity)}"
        )
    name, base = identity["space"], described(base_of(identity))
    alone = len(definition["variants"]) == 1
    line = f"python -m study.compare --vary {'seed' if alone else name}"
    if base not in PRESETS:
        line += f" --config {config_file(identity)}"
    elif base != HAND_TUNED or alone:
        line += f" --preset {base}"
    return line + _images(identity) + _budget(identity) + _seeds(identity)


def emotions_command(identity: Identity) -> str:
    """The command that trains without each of the emotions in turn."""
    line = "python -m study.emotions"
    return line + _images(identity) + _budget(identity) + _seeds(identity)


def config_file(identity: Identity) -> str:
    """What the file is called that has the settings of a comparison."""
    alone = len(identity["space_definition"]["variants"]) == 1
    changed = digest(identity["space_definition"]["base"])[:6]
    return f"{identity['space'] if alone else f'settings-{changed}'}.yaml"


def base_of(identity: Identity) -> Config:
    """What a comparison varies."""
    return Config(**identity["space_definition"]["base"], epochs=identity["epochs"])


def described(config: Config) -> str:
    """The preset that these settings are, or what they change of the hand-tuned ones."""
    changed: dict[str, dict[str, Any]] = {
        name: {
            key: value
            for key, value in config.settings().items()
            if key not in SETTLED and preset.settings()[key] != value
        }
        for name, preset in PRESETS.items()
    }
    for name, changes in changed.items():
        if not changes:
            return name
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in changed[HAND_TUNED].items()
    }
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def removed(identity: Identity) -> list[str]:
    """The classes that were left out."""
    return [name for name in EMOTIONS if name not in identity["classes"]]


def _images(identity: Identity) -> str:
    data = "" if identity["data"] == "demo" else f" --data {identity['data']}.parquet"
    less = removed(identity) if is_search(identity) else []
    return data + (f" --remove {' '.join(less)}" if less else "")


def _budget(identity: Identity) -> str:
    subset = f" --subset {identity['subset']}" if identity["subset"] else ""
    return (
        f" --split {identity['split']}{subset} --epochs {identity['epochs']} "
        f"--precision {identity['precision']}"
    )


def _seeds(identity: Identity) -> str:
    return f" --seeds {identity['space_definition']['seeds']}"
