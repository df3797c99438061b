"""Search spaces for FER-2013's network, defined in YAML files.

A setting of `Config` has a range, choices, or one value for all trials. With `by`, it has one of
these for each listed value of another setting:

    optimizer: {choices: [adam, sgd]}
    lr:
      by: optimizer
      adam: {low: 0.0001, high: 0.01, log: true}
      sgd: {low: 0.001, high: 1, log: true}
    fc_width: {low: 32, high: 128, step: 16}
    dropout: 0.3
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Annotated, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fer.command import nearest, shortly
from fer.config import PRESETS, Config, read_yaml
from fer.errors import UserError
from study.pipeline import Only, Space
from study.spec.report import HAND_TUNED, OWN
from study.spec.space import describe
from study.spec.spaces import SPACES

NAME = "own"
"""Name of every user-defined space, whatever its file is called."""
BY = "by"
RANGE = ("low", "high", "log", "step")
FIELDS = {name: field for name, field in Config.model_fields.items() if name not in OWN}


def find_space(word: str) -> tuple[str, Space]:
    """Return name and content of the built-in space `word`, or of the space in the file `word`.

    A file with the content of a built-in space gets that space's name. Raises UserError naming
    file, setting, rule and value if the file is invalid.
    """
    if word in SPACES:
        return word, SPACES[word]
    try:
        Path(word).stat()
    except OSError as error:
        known = ", ".join(SPACES)
        raise UserError(
            f"--space must be {known} or a YAML file, got {word!r}: {error.strerror}"
            f"{nearest(word, SPACES)}"
        ) from None
    try:
        space = read_space(read_yaml(Path(word)))
    except ValueError as error:
        raise UserError(f"{error} (in {word})") from None
    same = (known for known, other in SPACES.items() if describe(other) == describe(space))
    name = next(same, NAME)
    return name, SPACES.get(name, space)


def read_space(content: Mapping[str, Any]) -> Space:
    """Return the space described by the content of a file. Raise ValueError if it is invalid."""
    for setting in content:
        if setting in OWN:
            raise ValueError(f"{setting}: study.run sets this for all trials")
        if setting not in FIELDS:
            raise ValueError(f"{shortly(setting)} is not a setting{nearest(setting, FIELDS)}")
    plain = {
        setting: _distribution(setting, given, setting)
        for setting, given in content.items()
        if not _is_conditional(given)
    }
    space: dict[str, BaseDistribution | Only] = {}
    for setting, given in content.items():
        if setting in plain:
            space[setting] = plain[setting]
        else:
            space |= _conditional(setting, given, plain)
    if all(_distribution_of(kind).single() for kind in space.values()):
        raise ValueError("it varies nothing: give at least one setting a range or choices")
    _check_together(space)
    return space


def _is_conditional(given: Any) -> bool:
    return isinstance(given, dict) and BY in given


def _distribution_of(kind: BaseDistribution | Only) -> BaseDistribution:
    return kind.distribution if isinstance(kind, Only) else kind


def _conditional(
    setting: str, given: dict[Any, Any], plain: Mapping[str, BaseDistribution]
) -> dict[str, Only]:
    """Return the distributions of a setting for each value of another one, which is in `plain`."""
    of = given[BY]
    others = [name for name, each in plain.items() if isinstance(each, CategoricalDistribution)]
    if of not in others:
        hint = nearest(str(of), others) or "; it must have choices in the same file"
        raise ValueError(f"{setting}: {BY} = {shortly(of)}: no such setting{hint}")
    choices = plain[of].choices  # type: ignore[attr-defined]
    found = {}
    for value, each in given.items():
        if value == BY:
            continue
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(
                f"{setting}: {shortly(value)} is not a choice of {of}"
                f"{nearest(str(value), map(str, choices))}"
            )
        name = f"{value}_{setting}"
        found[name] = Only(of, value, setting, _distribution(setting, each, f"{setting}, {value}"))
    if not found:
        raise ValueError(f"{setting}: no range given for any value of {of}")
    return found


def _distribution(setting: str, given: Any, place: str) -> BaseDistribution:
    """Return the distribution of a setting, given at `place` in the file."""
    if isinstance(given, list):
        raise ValueError(f"{place}: write a list as {{choices: {shortly(given)}}}")
    if not isinstance(given, dict):
        return CategoricalDistribution([_value(setting, given, place)])
    for key in given:
        if key not in (*RANGE, "choices"):
            raise ValueError(
                f"{place}: {shortly(key)} is not one of {', '.join(RANGE)}, choices"
                f"{nearest(str(key), (*RANGE, 'choices'))}"
            )
    if "choices" in given:
        return _choices(setting, given, place)
    if FIELDS[setting].annotation is int:
        return _int_range(setting, given, place)
    if FIELDS[setting].annotation is float:
        return _float_range(setting, given, place)
    raise ValueError(f"{place} = {shortly(given)}: not numeric, so list its choices")


def _choices(setting: str, given: Mapping[str, Any], place: str) -> BaseDistribution:
    values = given["choices"]
    if len(given) > 1:
        raise ValueError(f"{place}: both choices and a range, give only one")
    if not isinstance(values, list) or not values:
        raise ValueError(f"{place}: choices = {shortly(values)}: it must be a list of values")
    choices: list[Any] = []
    for value in values:
        choice = _value(setting, value, f"{place}: choice")
        if choice in choices:
            raise ValueError(f"{place}: choice = {shortly(value)}: listed twice")
        choices.append(choice)
    return CategoricalDistribution(choices)


def _int_range(setting: str, given: Mapping[str, Any], place: str) -> BaseDistribution:
    low, high, log = _ends(setting, given, place)
    step = given.get("step", 1)
    if type(step) is not int or step < 1:
        raise ValueError(f"{place}: step = {shortly(step)}: it must be a positive integer")
    _check_step(low, high, step, place)
    return IntDistribution(low, high, log=log, step=step)


def _float_range(setting: str, given: Mapping[str, Any], place: str) -> BaseDistribution:
    low, high, log = _ends(setting, given, place)
    if "step" not in given:
        return FloatDistribution(low, high, log=log)
    step = _number(given["step"])
    if type(step) not in (int, float) or not step > 0:
        raise ValueError(f"{place}: step = {shortly(step)}: it must be greater than 0")
    _check_step(low, high, step, place)
    return FloatDistribution(low, high, step=float(step))


def _ends(setting: str, given: Mapping[str, Any], place: str) -> tuple[Any, Any, bool]:
    """Return both ends of a range, and whether it is logarithmic."""
    if lacking := [key for key in ("low", "high") if key not in given]:
        raise ValueError(f"{place} = {shortly(dict(given))}: {' and '.join(lacking)} is missing")
    low, high = (_value(setting, given[end], f"{place}: {end}") for end in ("low", "high"))
    log = given.get("log", False)
    if low == high:
        raise ValueError(f"{place}: low = high = {low}: write a single value as {setting}: {low}")
    if low > high:
        raise ValueError(f"{place}: low = {low}, high = {high}: low must be less than high")
    if not isinstance(log, bool):
        raise ValueError(f"{place}: log = {shortly(log)}: it must be true or false")
    if log and low <= 0:
        raise ValueError(f"{place}: low = {low}: it must be greater than 0 with log")
    if log and "step" in given:
        raise ValueError(f"{place}: step = {shortly(given['step'])}: a log range has no step")
    return low, high, log


def _check_step(low: float, high: float, step: float, place: str) -> None:
    start, end, by = (Decimal(str(each)) for each in (low, high, step))
    if (end - start) % by:
        raise ValueError(f"{place}: step = {step}: from low = {low} it misses high = {high}")


def _value(setting: str, given: Any, place: str) -> Any:
    """Validate a value as `Config` does. Raise ValueError if it is invalid."""
    number = _number(given) if FIELDS[setting].annotation is float else given
    try:
        return _rule(setting).validate_python(number, strict=True)
    except ValidationError as error:
        rule = error.errors()[0]["msg"].replace("Input", "it", 1)
        raise ValueError(f"{place} = {shortly(given)}: {rule}") from None


@cache
def _rule(setting: str) -> TypeAdapter[Any]:
    """Return the validator of a single setting of `Config`."""
    field: Any = FIELDS[setting]
    return TypeAdapter(Annotated[field.annotation, field], config=ConfigDict(allow_inf_nan=False))


def _number(given: Any) -> Any:
    """Parse a number that YAML 1.1 reads as text, such as 1e-3 (no decimal point)."""
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given


def _check_together(space: Space) -> None:
    """Raise ValueError if a trial could have a combination of settings that `Config` rejects.

    Each rule involves two settings, so every pair of range ends and choices is checked.
    """
    for settings in _pairs(space):
        try:
            Config.model_validate(settings)
        except ValidationError as error:
            rule = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(
                f"{rule}; trials could have both: with {BY}, give a range only for some values of "
                "another setting"
            ) from None


def _pairs(space: Space) -> Iterator[dict[str, Any]]:
    """Yield settings that cover all pairs of outermost values of every two parameters.

    Parameters whose condition does not apply are left out.
    """
    base = PRESETS[HAND_TUNED].settings()
    outer = {name: _outermost(_distribution_of(kind)) for name, kind in space.items()}
    first = {name: values[0] for name, values in outer.items()}
    for names in combinations_with_replacement(space, 2):
        needed = {kind.of: kind.value for name in names if isinstance(kind := space[name], Only)}
        for values in product(*(outer[name] for name in names)):
            chosen = {**first, **needed, **dict(zip(names, values, strict=True))}
            settings = dict(base)
            settings |= {name: chosen[name] for name, kind in space.items() if name in FIELDS}
            yield settings | {
                kind.setting: chosen[name]
                for name, kind in space.items()
                if isinstance(kind, Only) and kind.applies(settings)
            }


def _outermost(distribution: BaseDistribution) -> list[Any]:
    """Return both ends of a numeric range, or all non-numeric choices."""
    if not isinstance(distribution, CategoricalDistribution):
        return [distribution.low, distribution.high]  # type: ignore[attr-defined]
    choices: Any = distribution.choices
    if all(type(choice) in (int, float) for choice in choices):
        return [min(choices), max(choices)]
    return list(choices)
