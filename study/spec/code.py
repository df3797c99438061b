"""The code version of pipelines that do not define one."""

import ast
import hashlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec, resolve_name
from pathlib import Path

from fer.syntax import statement_hashes
from study.pipeline import Pipeline

PROGRAM = ("study", "fer")  # packages with their own version
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def code_of(pipeline: Pipeline) -> dict[str, str]:
    """Hash what a pipeline's class computes.

    Covers its module and the neighbouring modules it imports, or what it uses of the running
    script or notebook. Empty for code typed into `python -`, whose source is not available.
    """
    module = type(pipeline).__module__
    if module == "__main__":
        statements = _running_source()
        used = _used(statements, type(pipeline).__qualname__.partition(".")[0])
    else:
        used = [node for file in _sources(module) for node in _parse(file.read_bytes())]
    if not used:
        return {}
    parts = [*statement_hashes(used), *_other_names(used)]
    return {"code": hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:12]}


def commit_of(pipeline: Pipeline) -> str:
    """Return the Git commit of a pipeline's code, followed by "with uncommitted changes" if there
    are any in its folder; empty if its module is not under version control."""
    try:
        file = Path(inspect.getfile(type(pipeline)))
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        head = _git(file.parent, "rev-parse", "HEAD").strip()
        changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (TypeError, OSError, subprocess.CalledProcessError):  # a notebook, or no Git
        return ""
    return f"{head} with uncommitted changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    line = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def _parse(source: str | bytes) -> list[ast.stmt]:
    return ast.parse(source).body


def _other_names(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield imports under another name: they change what the code computes."""
    for node in (each for statement in statements for each in ast.walk(statement)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            place = getattr(node, "module", "")
            for alias in node.names:
                if alias.asname is not None:
                    yield f"{place} {alias.name} {alias.asname}"


def _running_source() -> list[ast.stmt]:
    """Return the statements of the running script, or of the notebook cells run so far."""
    main = sys.modules["__main__"]
    cells = vars(main).get("In")
    if isinstance(cells, list):
        statements = []
        for cell in cells:
            with suppress(SyntaxError):  # IPython's own commands
                statements += _parse(cell)
        return statements
    file = getattr(main, "__file__", None)
    return _parse(Path(file).read_bytes()) if file else []


def _used(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Return the statements that define a name and, transitively, the names they use.

    If a name is defined more than once, as when a cell is run again, the last definition counts.
    """
    defining: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for bound in _bound(statement):
            if _defines_anew(statement):
                defining[bound] = []
            defining.setdefault(bound, []).append(statement)
    found: dict[int, ast.stmt] = {}
    names, seen = [name], set()
    while names:
        if (each := names.pop()) not in seen:
            seen.add(each)
            for statement in defining.get(each, ()):
                found[id(statement)] = statement
                names += {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return list(found.values())


def _defines_anew(statement: ast.stmt) -> bool:
    plain = isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Name) for target in statement.targets
    )
    return plain or isinstance(statement, DEFINITIONS)


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines or modifies."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    match statement:
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    names = set()
    for node in ast.walk(statement):
        target = node
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        if isinstance(getattr(node, "ctx", None), ast.Store) and isinstance(target, ast.Name):
            names.add(target.id)
    return names


def _sources(module: str) -> list[Path]:
    """Return the files of a module and of everything it transitively imports from its folder."""
    place = _place_of(module.partition(".")[0])
    found: dict[str, Path] = {}
    names = [module]
    while place is not None and names:
        name = names.pop()
        if name in found or name.partition(".")[0] in PROGRAM:
            continue
        file = _file_of(name)
        if file is not None and file.is_relative_to(place) and "site-packages" not in file.parts:
            found[name] = file
            names += _imports(name, file)
    return sorted(found.values())


def _place_of(top: str) -> Path | None:
    """Return the folder that contains a top-level module or package."""
    spec = find_spec(top)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _file_of(name: str) -> Path | None:
    spec = None
    with suppress(ImportError, ValueError):  # not a module, or a module without a spec
        spec = find_spec(name)
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _imports(name: str, file: Path) -> Iterator[str]:
    """Yield the modules that a module imports, and imported names that may be modules."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            with suppress(ImportError):  # beyond the package: never executed
                base = resolve_name(relative, package) if node.level else relative
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
