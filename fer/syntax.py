"""Hash what code computes, ignoring comments, docstrings, annotations and formatting."""

import ast
import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

UNSEEN = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "simple"}
PROSE = {"description"}  # keyword arguments that contain text for people


def syntax_hash(files: Sequence[Path], modules: Collection[str]) -> str:
    """Return the SHA-256 (hexadecimal) of the top-level statements of Python files, in any order.

    Ignores comments, docstrings, annotations, imports and error messages. Also ignores which file
    a statement is in, and names of `modules` before a dot, so statements may move between modules.
    """
    names = frozenset(modules)
    hashes = sorted(each for file in files for each in _hashes_of(file.read_bytes(), names))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@cache
def _hashes_of(source: bytes, modules: frozenset[str]) -> tuple[str, ...]:
    return tuple(statement_hashes(ast.parse(source).body, modules))


def statement_hashes(statements: list[ast.stmt], modules: Collection[str] = ()) -> Iterator[str]:
    """Yield the SHA-256 (hexadecimal) of each statement that counts in `syntax_hash`."""
    for statement in _computing(statements):
        yield hashlib.sha256(repr(_plain(statement, modules)).encode()).hexdigest()


def _computing(body: list[ast.stmt], fields: bool = False) -> Iterator[ast.stmt]:
    """Yield statements that have an effect; in a class with `fields`, bare annotations do."""
    for statement in body:
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                continue
            case ast.AnnAssign(value=None) if not fields:
                continue
        yield statement


def _is_body(child: object) -> bool:
    return isinstance(child, list) and bool(child) and isinstance(child[0], ast.stmt)


def _plain(node: object, modules: Collection[str]) -> object:
    """Convert a node to nested tuples, independent of the Python version."""
    match node:
        case ast.Raise(exc=ast.Call(func=kind)):  # its arguments are messages
            return "Raise", _plain(kind, modules)
        case ast.Assert(test=test):
            return "Assert", _plain(test, modules)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return "Assign", (_plain(target, modules),), _plain(value, modules)
        case ast.Assign(targets=targets, value=value):
            return "Assign", _plain(targets, modules), _plain(value, modules)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules:
            return "Name", ("id", repr(name))  # as if it were imported by name
        case ast.keyword(arg=str(name)) if name in PROSE:
            return "keyword", name
        case ast.AST():
            in_class = isinstance(node, ast.ClassDef)
            children = {
                name: [*_computing(child, in_class)] if _is_body(child) else child
                for name, child in ast.iter_fields(node)
                if name not in UNSEEN
            }
            plain = ((name, _plain(child, modules)) for name, child in children.items())
            return type(node).__name__, *plain
        case list():
            return tuple(_plain(each, modules) for each in node)
    return repr(node)
