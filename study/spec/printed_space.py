"""Print a search space as a commented YAML file to start from."""

from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.pipeline import Only, Space
from study.spec.own_space import BY, FIELDS
from study.spec.report import HAND_TUNED, PRESETS

HEAD = """\
# What python -m study.run --space FILE varies. A setting has a range, choices or one value:
#   {low: 1, high: 9}    numbers from 1 to 9; log: true for a log scale, step: 2 for every other
#   {choices: [a, b]}    one of these
#   a                    the same for all trials
# With by:, it has a range for each listed value of another setting; elsewhere its default.
"""
REST = "# Not varied here, with the value that all trials use:"


def in_yaml(space: Space) -> str:
    """Format a space as the content of a file, with a description of each setting.

    Raises TypeError for parameters that the file format does not support.
    """
    plain = {name: kind for name, kind in space.items() if not isinstance(kind, Only)}
    given: dict[str, list[str]] = {}
    for name, kind in space.items():
        if not isinstance(kind, Only):
            given[name] = [f"{name}: {_flow(_written(kind))}"]
            continue
        if name != f"{kind.value}_{kind.setting}" or kind.of not in plain:
            raise TypeError(f"the file format does not support the parameter {name}")
        lines = given.setdefault(kind.setting, [f"{kind.setting}:", f"  {BY}: {kind.of}"])
        lines.append(f"  {_flow(kind.value)}: {_flow(_written(kind.distribution))}")
    parts = [HEAD]
    for setting, lines in given.items():
        parts += [f"# {FIELDS[setting].description}", *lines]
    parts += ["", REST]
    base = PRESETS[HAND_TUNED].settings()
    for setting, field in FIELDS.items():
        if setting not in given:
            parts += [f"# {setting}: {_flow(base[setting])}  # {field.description}"]
    return "\n".join(parts) + "\n"


def _written(distribution: BaseDistribution) -> Any:
    """Convert a distribution to the plain types of a file."""
    match distribution:
        case CategoricalDistribution(choices=(single,)):
            return single
        case CategoricalDistribution(choices=choices):
            return {"choices": list(choices)}
        case IntDistribution(low=low, high=high, log=log, step=step):
            steps: dict[str, Any] = {"step": step} if step != 1 else {}
        case FloatDistribution(low=low, high=high, log=log, step=float_step):
            steps = {} if float_step is None else {"step": float_step}
        case _:
            raise TypeError(f"unsupported distribution: {distribution}")
    return {"low": low, "high": high, **({"log": True} if log else {}), **steps}


def _flow(content: Any) -> str:
    """Format plain types as one line of YAML."""
    text = yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()
