"""Where the settings in a file come from, and how the current training differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fer.command import printable, shortly
from fer.config import EMOTIONS, Config, read_yaml
from fer.errors import UserError

if TYPE_CHECKING:
    from fer.data import Dataset

Classes = Annotated[tuple[Literal[EMOTIONS], ...], Field(min_length=2)]  # type: ignore[valid-type]
Split = Literal["grouped", "stratified", "file-order"]


class Origin(BaseModel):
    """What settings were found on or a run was trained on; None where the file does not say."""

    model_config = ConfigDict(frozen=True)

    epochs: int = Field(ge=1)
    best_epoch: int | None = Field(
        None, ge=1
    )  # of these; the median over seeds if there were several
    threads: int | None = None
    data: str | None = None
    data_sha256: str | None = None
    classes: Classes | None = None
    split: Split | None = None
    split_seed: int | None = None
    subset: int | None = None
    holdout: float | None = None
    kernels: str | None = None


@dataclass(frozen=True)
class Images:
    """Which images of a data set to use: without the classes `remove`, `subset` of them, minus a
    share `holdout`; with `whole`, validation images are trained on too."""

    remove: Sequence[str]
    subset: int | None
    split: Split
    split_seed: int
    holdout: float | None = None
    whole: bool = False


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the `provenance` section of a file of settings. May raise UserError."""
    return _section(read_yaml(path), "provenance", path)


def read_origin(path: Path, settings: Config) -> Origin:
    """Return the origin of the `settings` in a file: its run's data, else its study's.

    Raises UserError if the origin is malformed.
    """
    content = read_yaml(path)
    name, told = "provenance", _section(content, "provenance", path)
    # Settings may be exported for longer training than they were found with.
    then = {"epochs": settings.epochs, "threads": settings.threads or None, **told}
    if then["epochs"] != settings.epochs:
        then["best_epoch"] = None  # for another number of epochs
    if run := _section(content, "data", path):
        name, then = "data", {**then, **run, "data": run.get("name")}
        then["data_sha256"] = run.get("sha256")
        then |= {"epochs": settings.epochs, "threads": settings.threads or None}
    if then.get("split_seed") == "seed":  # each trial had its own
        then["split_seed"] = settings.seed
    try:
        return Origin.model_validate(then)
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"].replace("Input should be a valid string", "must be text")
        raise UserError(
            f"'{name}.{first['loc'][0]}' {rule}, got {shortly(first['input'])} in {path}"
        ) from None


def compare_origin(
    file: Path, origin: Origin, whole: "Dataset", now: Images, epochs: int, chosen: bool
) -> str:
    """Describe in a line how training `now` differs from the origin of the settings.

    `whole` is the current data set. Returns "" if nothing differs. Raises UserError if the data
    differs and the user has not `chosen` it explicitly.
    """
    if origin.data_sha256 is None:
        return ""
    removed = now.remove
    if origin.classes is not None:
        removed = [name for name in EMOTIONS if name not in origin.classes]
    words = []
    if other := _other_data(origin, whole, removed, now):
        if not chosen:
            raise UserError(
                f"other data: {other} ({file}); give the images to train on with --data"
            )
        words.append(f"data: {other}")
    words += [
        f"{name}: {then} then, {here} now"
        for name, then, here in _pairs(origin, whole, removed, now, epochs)
        if then != here
    ]
    return (
        printable(f"{file} was found under other conditions: {'; '.join(words)}") if words else ""
    )


def _other_data(origin: Origin, whole: "Dataset", removed: Sequence[str], now: Images) -> str:
    """Describe how the data differs; empty if it does not."""
    from fer import data

    # Removing classes changes the hash, and so may the order: arrange as at the origin.
    here = data.arranged(whole, removed, origin.split or now.split)
    if here.sha256 == origin.data_sha256:
        return ""
    then = f"{origin.data} ({str(origin.data_sha256)[:12]})"
    return f"{then} then, {here.name} ({here.sha256[:12]}) now"


def _pairs(
    origin: Origin, whole: "Dataset", removed: Sequence[str], now: Images, epochs: int
) -> Iterator[tuple[str, str, str]]:
    """Yield what may differ, as it was and as it is now."""
    from fer.data import SEED, split_in_words

    classes = (_listed(removed), _listed(now.remove))
    yield "classes left out", *classes
    count = len(whole.without(now.remove).part("Training"))
    subset = None if now.subset == count else now.subset
    yield "images", _size(origin.subset), _size(subset)
    yield "held out", _share(origin.holdout), _share(now.holdout)
    if origin.split is not None:
        seed = SEED if origin.split_seed is None else origin.split_seed
        then = split_in_words(origin.split, seed)
        here = "none" if now.whole else split_in_words(now.split, now.split_seed)
        yield "validation", then, here
    yield "epochs", str(origin.epochs), str(epochs)


def _listed(names: Sequence[str]) -> str:
    return " ".join(name for name in EMOTIONS if name in names) or "none"


def _size(subset: int | None) -> str:
    return "all" if subset is None else f"{subset:,}"


def _share(holdout: float | None) -> str:
    return "none" if holdout is None else f"{100 * holdout:g}%"


def _section(content: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    section = content.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UserError(f"'{key}' must hold keys and values, got {shortly(section)} in {path}")
    return section
