"""Pictures of the validation images that a trial got wrong."""

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
    """The images of the best trial's mistakes by their place in the order of validation.

    Raises UserError if `data` is not what the study was trained on, or the study is not of faces.
    """
    identity = kept(study, IDENTITY)
    if not is_search(identity) or not is_of_faces(identity):
        raise UserError(f"--data is for a search of FER-2013, study {study.study_name!r} is none")
    pipeline = faces_again(study.study_name, identity, data, "cpu")
    images = pipeline.side[0][pipeline.validated]
    result = trials_of(study).complete[0].result
    cases = [each.case for each in result.mistakes] if result else []
    return {case: picture(images[case]) for case in cases if 0 <= case < len(images)}


def picture(image: NDArray[np.uint8]) -> Html:
    """An image uint8 [H, W] within the page."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return Html(f"<img alt='' src='data:image/png;base64,{data}'>")
