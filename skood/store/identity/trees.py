"""What a function's code says, whatever Python reads it: its syntax tree as text."""

from __future__ import annotations

import ast
import hashlib
import os
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

__all__ = ["code_text", "inner_code", "tree_text"]

_NOT_SAID = {"kind", "type_comment", "ctx"}
"""Fields that follow from others, or that change nothing."""

_EMPTY = "str ''"


def tree_text(node: Any) -> str:
    r"""Return a syntax tree as text: the same for the same program.

    Comments, docstrings, formatting and places are not in it, and fields that are
    empty are left out, so that those which later versions of Python add change nothing.

    Examples
    --------
    >>> import ast
    >>> from skood.store.identity.trees import tree_text
    >>> one = ast.parse("def f(x):\n    'Doubles.'\n    return 2*x  # twice")
    >>> tree_text(one) == tree_text(ast.parse("def f(x): return (2 * x)"))
    True
    """
    if isinstance(node, ast.Constant):
        value = hex(node.value) if type(node.value) is int else ascii(node.value)
        return f"{type(node.value).__name__} {value}"
    if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty texts
        parts = (tree_text(part) for part in node.values)
        return f"JoinedStr({', '.join(part for part in parts if part != _EMPTY)})"
    if isinstance(node, ast.AST):
        fields = {n: tree_text(value) for n, value in ast.iter_fields(node)}
        kept = sorted(n for n, text in fields.items() if text and n not in _NOT_SAID)
        return f"{type(node).__name__}({', '.join(f'{n}={fields[n]}' for n in kept)})"
    if isinstance(node, list):
        said = [tree_text(part) or "-" for part in node if not _does_nothing(part)]
        return f"[{', '.join(said)}]" if said else ""
    return "" if node is None else ascii(node)


def _does_nothing(part: Any) -> bool:
    text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    return text or isinstance(part, ast.Pass)


def code_text(code: CodeType) -> str:
    """Return what tells a function's code from others.

    That is its syntax tree where the file that it came from still has that very code.
    What was typed in, or has been edited since, counts by its instructions, which
    another process (a worker that was sent the function) sees too.
    """
    try:
        about = os.stat(code.co_filename)
        node = _nodes(code.co_filename, about.st_mtime_ns, about.st_size).get(code)
    except (OSError, SyntaxError, ValueError, RecursionError):
        node = None
    return _instructions(code) if node is None else tree_text(node)


@lru_cache(maxsize=256)
def _nodes(path: str, _time: int, _size: int) -> dict[CodeType, ast.AST]:
    """Return the functions of a file: from their code to their trees."""
    with tokenize.open(path) as file:
        text = file.read()
    found: dict[tuple[str, int], list[ast.AST]] = defaultdict(list)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found[node.name, first].append(node)
        elif isinstance(node, ast.Lambda):
            found["<lambda>", node.lineno].append(node)
    codes = inner_code(compile(text, path, "exec", dont_inherit=True))
    pairs = [(code, found[code.co_name, code.co_firstlineno]) for code in codes]
    return {code: nodes[0] for code, nodes in pairs if len(nodes) == 1}


def inner_code(code: CodeType) -> Iterator[CodeType]:
    """Yield code, and that of all functions defined within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from inner_code(constant)


def _instructions(code: CodeType) -> str:
    digest = hashlib.sha256(code.co_code)
    names = (code.co_names, code.co_varnames, code.co_freevars)
    constants = (_constant(c) for c in code.co_consts)
    digest.update(ascii((names, *constants)).encode())
    return digest.hexdigest()


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _instructions(value)
    if isinstance(value, (tuple, frozenset)):
        parts = map(_constant, value)
        return str(sorted(parts) if isinstance(value, frozenset) else [*parts])
    return f"{type(value).__name__} {value!a}"
