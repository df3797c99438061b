"""Names of the seven emotions and of splits: synonyms, and suggestions for misspellings."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer.config import EMOTIONS
from fer.data.faces import USAGES
from fer.errors import UserError

MAX_NAMED = 12  # names that an error or note lists
MAX_SHOWN = 40  # characters per name
NEAR = 0.7  # minimum similarity of split names
NEAR_EMOTION = 0.8  # lower would confuse different words: shocked and scared
LONGEST = 200  # characters of a name that are examined

SYNONYMS = {
    "angry": ("anger",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid", "scared"),
    "happy": ("happiness", "joy", "joyful"),
    "sad": ("sadness",),
    "surprise": ("surprised",),
    "neutral": ("neutrality",),
}
_EMOTIONS = {
    word: label for label, name in enumerate(EMOTIONS) for word in (name, *SYNONYMS[name])
}
_USAGES = {
    "train": "Training",
    "training": "Training",
    "val": "Validation",
    "valid": "Validation",
    "validation": "Validation",
    "dev": "Validation",
    "development": "Validation",
    "test": "Test",
    "testing": "Test",
    "publictest": "PublicTest",
    "testpublic": "PublicTest",
    "public": "PublicTest",
    "privatetest": "PrivateTest",
    "testprivate": "PrivateTest",
    "private": "PrivateTest",
}
# Filler words around a split's name: fer2013_train, test-images, Training set.
_FILLING = "(?:fer2013|fer|data|set|split|images?|faces?)*"
_SPLIT = re.compile(f"{_FILLING}({'|'.join(sorted(_USAGES, key=len, reverse=True))}){_FILLING}")


def emotion_of(name: str) -> int | None:
    """Return the class index of an English adjective or noun; None for other words.

    Ignores case and a leading index ("0_angry", "3-Happy"). Digits alone give None.
    """
    return _EMOTIONS.get(_without_index(name))


def usage_of(name: str) -> str | None:
    """Return the usage for a common name of a split ("val", "Training set"), or None."""
    match = _SPLIT.fullmatch(re.sub(r"[\W_]", "", _without_index(name[:LONGEST])))
    return _USAGES[match[1]] if match else None


def _without_index(name: str) -> str:
    return re.sub(r"^[\W\d_]+", "", name.strip().lower())


def near_emotion(name: str) -> str:
    """Return the closest emotion as a suggestion to append, such as " (happy?)", or ""."""
    word = _without_index(name)[:MAX_SHOWN]
    near = get_close_matches(word, _EMOTIONS, 1, NEAR_EMOTION)
    if near and word.endswith(near[0]):  # "unhappy" is not a misspelling of "happy"
        return ""
    return f" ({EMOTIONS[_EMOTIONS[near[0]]]}?)" if near else ""


def near_usage(name: str) -> str:
    """Return the closest split name as a suggestion to append, or ""."""
    near = get_close_matches(_without_index(name)[:MAX_SHOWN], _USAGES, 1, NEAR)
    return f" ({near[0]}?)" if near else ""


def listed(names: Iterable[str]) -> str:
    """List the first names, and how many more there are."""
    each = iter(names)
    first = ", ".join(shown(name) for name in islice(each, MAX_NAMED))
    more = sum(1 for _ in each)
    return f"{first} and {more:,} more" if more else first


def shown(name: str) -> str:
    """Shorten a long name in the middle."""
    return name if len(name) <= 3 * MAX_SHOWN else f"{name[:MAX_SHOWN]}...{name[-MAX_SHOWN:]}"


class Column:
    """Looks up the words of a column, and reports all unknown ones together."""

    def __init__(
        self, rule: str, meaning: Callable[[str], int | None], near: Callable[[str], str]
    ) -> None:
        self._rule, self._meaning, self._near = rule, meaning, near
        self._known: dict[str, int] = {}
        self.unknown: dict[str, str] = {}  # first place of each word

    def look_up(self, words: Sequence[str], place: str, first: int) -> NDArray[np.int64]:
        """Return the index [N] of each word, 0 if unknown; `place` is "row" or "line"."""
        for word in dict.fromkeys(words):
            if word in self._known or word[:MAX_SHOWN] in self.unknown:
                continue
            meaning = self._meaning(word)
            if meaning is not None:
                self._known[word] = meaning
            elif len(self.unknown) <= MAX_NAMED:
                self.unknown[word[:MAX_SHOWN]] = f"{place} {first + words.index(word)}"
        return np.array([self._known.get(word, 0) for word in words], np.int64)

    def check(self, path: Path) -> None:
        """Raise UserError naming the unknown words and the first place of each."""
        if not self.unknown:
            return
        got = [f"{word!r}{self._near(word)} in {place}" for word, place in self.unknown.items()]
        more = " and others" if len(got) > MAX_NAMED else ""
        raise UserError(f"{self._rule}, got {', '.join(got[:MAX_NAMED])}{more}: {path}")


def label_column(name: str) -> Column:
    """Return a column of class names; one called "emotion" may contain FER-2013's digits."""
    if name.strip().lower() == "emotion":
        return Column("a label must be in 0..6 or an emotion's name", _label, near_emotion)
    rule = (
        "a label must be an emotion's name (the order of digits is unknown; call the column "
        f"'emotion' if 0..6 are {', '.join(EMOTIONS)})"
    )
    return Column(rule, emotion_of, near_emotion)


def usage_column() -> Column:
    """Return a column of split names."""
    return Column(f"a usage must be one of {', '.join(USAGES)}", _usage, near_usage)


def _label(word: str) -> int | None:
    plain = word.strip()
    return int(plain) if len(plain) == 1 and plain in "0123456" else emotion_of(word)


def _usage(word: str) -> int | None:
    usage = usage_of(word)
    return None if usage is None else USAGES.index(usage)
