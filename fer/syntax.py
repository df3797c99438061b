"""A hash of what code computes, not of how it is written."""

import ast
import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

UNSEEN = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "simple"}
PROSE = {"description"}  # keyword arguments whose values are sentences for people


def syntax_hash(files: Sequence[Path], modules: Collection[str]) -> str:
    """SHA-256 (hexadecimal) of the top-level statements of Python files, in any order.

    Comments, docstrings, annotations, imports and the texts of errors do not count. Nor do the
    places of files and the names of `modules` before a dot, so a statement may move to another.
    """
    statements = [node for file in files for node in ast.parse(file.read_bytes()).body]
    hashes = sorted(statement_hashes(statements, modules))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def statement_hashes(statements: list[ast.stmt], modules: Collection[str] = ()) -> Iterator[str]:
    """SHA-256 (hexadecimal) of each statement that computes something, as in `syntax_hash`."""
    for statement in _computing(statements):
        yield hashlib.sha256(repr(_plain(statement, modules)).encode()).hexdigest()


def _computing(body: list[ast.stmt], fields: bool = False) -> Iterator[ast.stmt]:
    """The statements that do something; in a class with `fields` a bare annotation does."""
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
    """A node as nested tuples, the same in every version of Python that parses it."""
    match node:
        case ast.Raise(exc=ast.Call(func=kind)):  # its arguments are prose
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
