"""What a function's code says, whatever Python reads it: its syntax tree as text."""

from __future__ import annotations

import ast
import os
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

__all__ = ["inner_code", "text_of", "tree_text"]

_NOT_SAID = {"kind", "type_comment", "ctx"}
"""Fields that follow from others, or that change nothing."""


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
    if isinstance(node, ast.AST):
        fields = {name: tree_text(part) for name, part in ast.iter_fields(node)}
        if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty texts
            fields["values"] = tree_text([v for v in node.values if not _is_empty(v)])
        said = [f"{n}={fields[n]}" for n in sorted(fields.keys() - _NOT_SAID)]
        kept = [text for text in said if not text.endswith("=")]
        return f"{type(node).__name__}({', '.join(kept)})"
    if isinstance(node, list):
        texts = [tree_text(part) or "-" for part in node if not _does_nothing(part)]
        return f"[{', '.join(texts)}]" if texts else ""
    return "" if node is None else ascii(node)


def _is_empty(part: Any) -> bool:
    return isinstance(part, ast.Constant) and part.value == ""


def _does_nothing(part: Any) -> bool:
    text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    return text or isinstance(part, ast.Pass)


def text_of(code: CodeType) -> str:
    """Return the syntax tree of a function's code as text.

    It is empty where the file that the code came from has not that very code: of what
    was typed in, or has been edited since.
    """
    try:
        about = os.stat(code.co_filename)
        node = _nodes(code.co_filename, about.st_mtime_ns, about.st_size).get(code)
    except (OSError, SyntaxError, ValueError, RecursionError):
        node = None
    return tree_text(node)


@lru_cache(maxsize=256)
def _nodes(path: str, _time: int, _size: int) -> dict[CodeType, ast.AST]:
    """Return the functions of a file: from their code to their trees."""
    with tokenize.open(path) as file:
        text = file.read()
    found: dict[tuple[str, int], list[ast.AST]] = defaultdict(list)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            lines = [d.lineno for d in getattr(node, "decorator_list", ())]
            name = getattr(node, "name", "<lambda>")
            found[name, min([node.lineno, *lines])].append(node)
    codes = inner_code(compile(text, path, "exec", dont_inherit=True))
    pairs = [(code, found[code.co_name, code.co_firstlineno]) for code in codes]
    return {code: nodes[0] for code, nodes in pairs if len(nodes) == 1}


def inner_code(code: CodeType) -> Iterator[CodeType]:
    """Yield code, and that of all functions defined within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from inner_code(constant)
