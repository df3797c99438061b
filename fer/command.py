"""What all commands share: option parsing, one-line errors, exit codes."""

import contextlib
import inspect
import io
import os
import re
import reprlib
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import FrameType, NoneType
from typing import Annotated, Any, get_args

import tyro
from pydantic import ValidationError
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from fer import home
from fer.errors import UserError
from fer.machine import settle_threads
from fer.output import OutputLost, occupy_standard_streams, output, say

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
LONGEST = 2000
"""Maximum characters of a printed line that comes from a file."""


_OPTIONS = ConstructorRegistry()


@_OPTIONS.primitive_rule
def _or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Help and errors of an optional value name only the type of the value, not None."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if len(kinds) != 1 or NoneType not in get_args(info.type):
        return None
    of_kind = PrimitiveTypeInfo.make(kinds[0], info.markers)
    spec = ConstructorRegistry.get_primitive_spec(of_kind)
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        is_instance=lambda each: each is None or spec.is_instance(each),
        str_from_instance=lambda each: ["none"] if each is None else spec.str_from_instance(each),
    )


_LAID_OUT = object()
"""Marker of a type whose fields are being laid out."""


@_OPTIONS.struct_rule
def _laid_out(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Help texts wrap at the width of the terminal, not where they wrap in the source.

    What an option does without a value stands in its text: there is no "(default: none)".
    """
    if _LAID_OUT in info.markers:
        return None  # for tyro's own rules
    inner = replace(info, markers=(*info.markers, _LAID_OUT))
    spec = ConstructorRegistry.get_struct_spec(inner)
    if not isinstance(spec, StructConstructorSpec):
        return None
    return replace(spec, fields=tuple(_field_laid_out(each) for each in spec.fields))


def _field_laid_out(option: StructFieldSpec) -> StructFieldSpec:
    text = option.helptext

    def joined() -> str | None:
        words = text() if callable(text) else text
        return None if words is None else " ".join(words.split())

    kind: Any = option.type
    if option.default in (None, ()):
        kind = Annotated[kind, tyro.conf.arg(help_behavior_hint="")]
    return replace(option, type=kind, helptext=joined)


def _paragraphs(text: str | None) -> str:
    """Return a docstring, filled to the width of the terminal."""
    width = shutil.get_terminal_size().columns - 1
    parts = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(textwrap.fill(part, width) for part in parts)


def parse(
    options: Callable[..., Any],
    program: str,
    argv: Sequence[str] | None = None,
    default: Any = None,
    only_known: bool = False,
) -> Any:
    """Parse `argv` (default: `sys.argv`) into the class `options`.

    With `only_known`, unknown options are ignored. Raises a one-line UserError for invalid
    options; prints the help and exits with 0 on `--help`. On success, prepares libraries for this
    machine: see `prepare_libraries`.
    """
    # The parser draws boxes around its errors; errors here must be one line.
    errors = io.StringIO()
    settings: dict[str, Any] = {"registry": _OPTIONS}
    if not only_known and {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv):
        print(_paragraphs(options.__doc__), end="\n\n")  # the parser does not wrap it
    if default is not None:
        settings["default"] = default
    try:
        with contextlib.redirect_stderr(errors):
            if only_known:
                return tyro.cli(
                    options, args=argv, add_help=False, return_unknown_args=True, **settings
                )[0]
            found = tyro.cli(
                options,
                prog=f"python -m {program}",
                description="",
                args=argv,
                config=(tyro.conf.OmitArgPrefixes,),
                **settings,
            )
        prepare_libraries()
        return found
    except SystemExit as exit:
        if not exit.code:
            raise
        if isinstance(exit.__context__, ValidationError):  # tyro prints it whole
            raise UserError(_refusal(exit.__context__)) from None
        raise UserError(_one_line(errors.getvalue())) from None
    except ValidationError as error:
        raise UserError(_refusal(error)) from None


def prepare_libraries() -> None:
    """Configure libraries not loaded yet, and child processes, for this machine."""
    settle_threads()
    if note := home.settle():
        say(printable(f"note: {note}"), file=sys.stderr)


def _refusal(error: ValidationError) -> str:
    """Return a line about the first option with an invalid value."""
    first = error.errors()[0]
    rule = first["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
    option = "-".join(str(part) for part in first["loc"]).replace("_", "-")
    return f"--{option} {shortly(first['input'])}: {rule}" if option else rule


def _one_line(box: str) -> str:
    """Return the first section of the parser's box, without frame and title, and a suggestion."""
    # Without UTF-8 output, the frame consists of dashes only.
    rows = [re.sub(r"^[─-]*$", "", row.strip(" ╭╮╰╯│")) for row in box.splitlines()[1:]]
    sections = "\n".join(rows).strip().split("\n\n")
    line, rest = " ".join(sections[0].split("\n")), "\n".join(sections[1:])
    if wrong := re.match(r"Unrecognized options: .*?(--[\w-]+)", line):
        similar = set(re.findall(r"--[\w-]+", rest)) - {wrong[1]}  # listed with their help
        return line + nearest(wrong[1], sorted(similar))
    if wrong := re.match(r"invalid choice '(.*)' for argument '(.*)'. Expected one of (.*)", line):
        *some, last = choices = re.findall(r"'(.*?)'", wrong[3])
        known = " or ".join([", ".join(some), last] if some else [last])
        return f"{wrong[2]} must be {known}, got {wrong[1]}{nearest(wrong[1], choices)}"
    if wrong := re.match(r"Error parsing (--[\w-]+): .*(int|float).*: '(.*)'$", line):
        needed = {"int": "an integer", "float": "a number"}[wrong[2]]
        return f"{wrong[1]} {wrong[3]}: it should be {needed}"
    return line


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` with the closest known word; empty if none is close."""
    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


_shortly = reprlib.Repr()
_shortly.maxlevel, _shortly.maxstring, _shortly.maxother = 2, 80, 80


def explain(error: ValidationError, place: str) -> str:
    """Return a line about the first violated rule in `error`, with value and place."""
    first, more = error.errors()[0], error.error_count() - 1
    key = ".".join(str(part)[:80] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        line = f"unknown configuration key {key!r} in {place}"
    else:
        rule = first["msg"].removeprefix("Value error, ")
        of = f"{key} = {shortly(first['input'])}: " if key else ""
        line = f"{of}{rule} (in {place})"
    return line + (f" and {more} more" if more else "")


def shortly(value: Any) -> str:
    """Return the repr of `value`, truncated in length and depth."""
    return _shortly.repr(value)


def printable(text: str) -> str:
    """Return `text` as one line that is safe on a terminal, with unprintable characters escaped.

    File names and contents may contain control characters and invalid UTF-8.
    """
    line = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in " ".join(text.split())
    )
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def quoted(*words: object) -> str:
    """Quote words to paste into a shell; safe on a terminal."""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # Line ends, control characters, invalid UTF-8: in the syntax of bash, zsh and ksh.
    letters = (
        letter if letter.isprintable() and letter not in "\\'" else _escaped(letter)
        for letter in word
    )
    return f"$'{''.join(letters)}'"


def _escaped(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))


def given(option: str, *values: object) -> str:
    """Quote an option with its values; a value that starts with a dash is not read as an
    option."""
    if len(values) == 1 and str(values[0]).startswith("-"):
        return quoted(f"--{option}={values[0]}")
    return quoted(f"--{option}", *values)


def operand(path: Path) -> str:
    """Quote a positional path."""
    return quoted(f"./{path}" if str(path).startswith("-") else path)


def run(main: Callable[[], None], lasting: bool = False) -> None:
    """Call `main`; print a UserError as one line on stderr and exit with code 2.

    A `lasting` command (one that trains, runs for minutes or writes files) continues if its output
    can no longer be written. Others exit then, silently if the reader closed the pipe (`| head`).
    """
    occupy_standard_streams()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell may ignore SIGINT
        signal.signal(signal.SIGINT, _interrupted)
    try:
        with output(lasting):
            code = _exit_code(main)
    except OutputLost as error:
        if isinstance(error.reason, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        with contextlib.suppress(OSError):
            print(f"error: cannot write the output: {error.reason.strerror}", file=sys.stderr)
        sys.exit(2)
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        sys.exit(code)


def _exit_code(main: Callable[[], None]) -> Any:
    """Call `main` and return the exit code: 128 plus its number if a signal ended it."""
    try:
        main()
    except SystemExit as exit:
        return exit.code
    except UserError as error:
        say(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    return 0


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: raise KeyboardInterrupt, or exit at once during an import.

    PyTorch imports Python modules while it initialises, and an exception there aborts the process.
    """
    place = frame
    while place is not None:
        if place.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(INTERRUPTED)
        place = place.f_back
    signal.default_int_handler(number, frame)
