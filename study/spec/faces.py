"""FER-2013's pipeline, from a command's options or as a stored study used it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fer.command import explain
from fer.config import DEMO_EPOCHS, PRESETS, Config
from fer.config import EMOTIONS as EMOTIONS
from fer.errors import UserError
from fer.origin import Images as Taken
from fer.origin import compare_origin, read_origin
from fer.output import say
from study.options import Images
from study.pipeline import Pipeline, Settings, Space, load_pipeline
from study.spec.identity import Identity, check_data
from study.spec.report import HAND_MADE, HAND_TUNED, RECIPES, changes_of
from study.spec.spaces import SPACES
from study.words import counted

if TYPE_CHECKING:
    from fer.data import Dataset
    from fer.pipeline import FacePipeline
    from fer.training.device import Device


def faces(
    images: Images,
    config: Config = PRESETS[HAND_TUNED],
    remove: Sequence[str] = (),
    space: Space = SPACES["default"],
    accept: Callable[["Dataset", "Dataset"], None] | None = None,
    vary_split: bool = False,
) -> "FacePipeline":
    """Return FER-2013's pipeline for the options, without the emotions `remove`; print the counts.

    With `vary_split` each trial seed gets its own split. Settings that are not varied come from
    `config`; a search starts with the report's. `accept` may reject the images before they are
    split. Raises UserError if the images cannot be loaded.
    """
    from fer.pipeline import prepare

    pipeline = prepare(
        images.data,
        remove,
        images.split,
        None if vary_split else images.split_seed,
        images.subset,
        images.device,
        config.model_copy(update={"precision": images.precision}),
        space,
        {name: changes_of(preset) for name, preset in {**HAND_MADE, **RECIPES}.items()},
        accept,
        images.holdout,
        images.split_seed,
    )
    say(f"classes {pipeline.faces.counts_in_words()}", hang=8)
    return pipeline


def noting_origin(
    file: Path, settings: Config, images: Images, epochs: int
) -> Callable[["Dataset", "Dataset"], None]:
    """Return an `accept` for `faces` that prints how the data differs from the origin of `file`.

    Raises UserError if the file's origin is malformed.
    """
    origin = read_origin(file, settings)
    now = Taken((), images.subset, images.split, images.split_seed, images.holdout)

    def note(whole: "Dataset", _: "Dataset") -> None:
        chosen = images.data is not None
        if line := compare_origin(file, origin, whole, now, epochs, chosen):
            say(f"note   {line}", hang=7)

    return note


def pipeline_again(
    pipeline: str | None,
    study: str,
    identity: Identity,
    data: Path | None,
    device: "Device",
    whole: bool = False,
    vary_split: bool = False,
) -> Pipeline:
    """Return the pipeline of a stored study: `pipeline` by name, else FER-2013's (`faces_again`).

    Raises UserError if the study used another pipeline or other data.
    """
    if pipeline:
        named = load_pipeline(pipeline)
        check_data(study, identity, named.identity())
        return named
    if not is_of_faces(identity):
        raise UserError(f"study {study!r} is not of FER-2013: give its --pipeline")
    return faces_again(study, identity, data, device, whole, vary_split)


def faces_again(
    study: str,
    identity: Identity,
    data: Path | None,
    device: "Device",
    whole: bool = False,
    vary_split: bool = False,
) -> "FacePipeline":
    """Return FER-2013's pipeline as a study used it.

    With `whole`, use all images; with `vary_split`, draw a new split for each trial seed.
    Raises UserError if the study used other data.
    """
    from fer.data import SEED
    from fer.pipeline import OF_EACH_TRIAL

    seed = identity.get("split_seed", SEED)  # older versions always used it
    images = Images(
        data=data,
        subset=None if whole else identity["subset"],
        split=identity["split"],
        split_seed=identity.get("holdout_seed", SEED) if seed == OF_EACH_TRIAL else seed,
        holdout=identity.get("holdout"),
        device=device,
        precision=identity["precision"],
    )

    def same(_: "Dataset", dataset: "Dataset") -> None:
        check_data(study, identity, {"data": dataset.name, "data_sha256": dataset.sha256})

    anew = vary_split or seed == OF_EACH_TRIAL
    return faces(images, remove=removed(identity), accept=same, vary_split=anew)


def is_of_faces(identity: Mapping[str, Any]) -> bool:
    """Whether a study used FER-2013's pipeline."""
    return {"data_sha256", "classes", "split", "subset"} <= identity.keys()


def removed(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the emotions that a study excluded."""
    return tuple(name for name in EMOTIONS if name not in identity["classes"])


def in_this_version(settings: Settings, identity: Identity, trial: int) -> dict[str, Any]:
    """Convert a trial's stored settings to this version. Raise UserError if that is impossible."""
    if not is_of_faces(identity):
        return dict(settings)
    try:
        return Config(**settings).settings()
    except ValidationError as error:
        raise UserError(explain(error, f"the settings of trial {trial}")) from None


def for_final_model(settings: Settings, identity: Identity) -> tuple[dict[str, Any], str]:
    """Return a trial's settings for training a final model, and a line that says what changed.

    A final model trains for the default number of epochs if the study had fewer, on all cores.
    """
    if not is_of_faces(identity):
        return dict(settings), ""
    usual = DEMO_EPOCHS if identity["data"] == "demo" else Config().epochs
    epochs, threads = settings["epochs"], settings["threads"]
    words = []
    if epochs < usual:
        words.append(f"for the default {usual} epochs instead of the trial's {epochs}")
    if threads:
        words.append(f"on all cores instead of the trial's {counted(threads, 'thread')}")
    again = f"fer.train --epochs {epochs} --threads {threads} repeats the trial"
    line = f"the exported settings train {', and '.join(words)}; {again}" if words else ""
    return {**settings, "epochs": max(epochs, usual), "threads": 0}, line


def check(name: str, base: Config, variants: Mapping[str, Settings], last_seed: int) -> None:
    """Raise UserError if a variant is not valid with `base`, or a seed is too large."""
    for label, changes in variants.items():
        try:
            Config.model_validate({**base.settings(), **changes, "seed": last_seed})
        except ValidationError as error:
            raise UserError(explain(error, f"{name} {label} with these settings")) from None
