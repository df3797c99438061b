"""Validation images that a trial misclassified."""

import base64
import io
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from PIL import Image

from fer.errors import UserError
from study.page.markup import Html
from study.page.trials import trials_of
from study.spec.faces import faces_again, is_of_faces
from study.spec.identity import IDENTITY, is_search
from study.storage.records import kept


def pictures_of(study: optuna.Study, data: Path) -> dict[int, Html]:
    """Return the images of the best trial's mistakes by index of the validation case.

    Raises UserError if the study was not trained on `data`, or is not a search of FER-2013.
    """
    identity = kept(study, IDENTITY)
    if not is_search(identity) or not is_of_faces(identity):
        raise UserError(f"--data is for a search of FER-2013, not for study {study.study_name!r}")
    pipeline = faces_again(study.study_name, identity, data, "cpu")
    images = pipeline.side[0][pipeline.validated]
    result = trials_of(study).complete[0].result
    cases = [each.case for each in result.mistakes] if result else []
    return {case: picture(images[case]) for case in cases if 0 <= case < len(images)}


def picture(image: NDArray[np.uint8]) -> Html:
    """Return an image uint8 [H, W] embedded in the page."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return Html(f"<img alt='' src='data:image/png;base64,{data}'>")
