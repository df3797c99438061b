"""The version of a pipeline's own code, for one that does not tell it."""

import ast
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from fer.syntax import syntax_hash
from study.pipeline import Pipeline

PROGRAM = ("study", "fer")  # whose packages have versions of their own


def code_of(pipeline: Pipeline) -> dict[str, str]:
    """A hash of what a pipeline's class computes: of its module and the modules beside it that
    it imports, or of what it uses of the script or notebook that runs."""
    module = type(pipeline).__module__
    if module == "__main__":
        parts = sorted(_reachable(type(pipeline)))
        return {"code": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]}
    files = sorted(_sources(module))
    return {"code": syntax_hash(files, ())[:12]} if files else {}


def _sources(module: str) -> set[Path]:
    """The file of a module, and of all that it imports, also indirectly, from the same place."""
    first = find_spec(module.partition(".")[0])
    if first is None or first.origin is None:
        return set()
    top = Path(first.origin)
    place = top.parent.parent if top.name == "__init__.py" else top.parent
    found: dict[str, Path] = {}
    names = [module]
    while names:
        name = names.pop()
        if name in found or name.partition(".")[0] in PROGRAM:
            continue
        file = _file_of(name)
        if file is not None and file.is_relative_to(place) and "site-packages" not in file.parts:
            found[name] = file
            names += _imports(name, file)
    return set(found.values())


def _file_of(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # a name within a module, or a module without a spec
        return None
    source = spec is not None and spec.origin is not None and spec.origin.endswith(".py")
    return Path(str(spec.origin)) if source and spec is not None else None


def _imports(name: str, file: Path) -> Iterator[str]:
    """The modules that a module imports, and names in them that may be modules."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = resolve_name(relative, package) if node.level else relative
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _reachable(start: type) -> Iterator[str]:
    """Functions, classes and plain values of the running script that a class uses, as text."""
    seen: set[str] = set()
    todo: list[tuple[str, Any]] = [(start.__qualname__, start)]
    while todo:
        name, thing = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        thing = getattr(thing, "__func__", getattr(thing, "fget", thing))  # of methods
        if isinstance(thing, type) and thing.__module__ == "__main__":
            todo += [(f"{name}.{key}", value) for key, value in vars(thing).items()]
            todo += [(base.__qualname__, base) for base in thing.__bases__]
        elif isinstance(thing, FunctionType) and thing.__module__ == "__main__":
            yield f"{name} {_text(thing.__code__)}"
            used = {each: thing.__globals__.get(each) for each in _names(thing.__code__)}
            todo += used.items()
        elif isinstance(thing, bool | int | float | str | tuple) and not name.endswith("__"):
            yield f"{name} {thing!r}"


def _text(code: CodeType) -> str:
    """What a function does, without its place, its comments and its docstring."""
    constants = [
        _text(each) if isinstance(each, CodeType) else repr(each)
        for each in code.co_consts
        if each != code.co_consts[0] or not isinstance(each, str)
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))
