"""Results, as a text to read or as JSON."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from skood.files.paths import user_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["show", "show_table", "write_table"]


def show(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print a mapping: a line an entry, or JSON."""
    if arguments.json:
        print(json.dumps(_plain(result)))
        return
    width = max(map(len, result))
    for name, value in result.items():
        lines = _text(value).splitlines() or [""]
        print(f"{name:{width}}  {lines[0]}")
        for line in lines[1:]:
            print(f"{'':{width}}  {line}")


def show_table(arguments: argparse.Namespace, table: pd.DataFrame) -> None:
    """Print a table, or its rows as JSON."""
    if arguments.json:
        rows = table.reset_index().to_dict("records")
        print(json.dumps(_plain(rows)))
    else:
        print(table.to_string(float_format=lambda value: f"{value:.4g}"))


def write_table(table: pd.DataFrame, name: str) -> None:
    """Write a table to a file of the kind that its name says.

    Raises
    ------
    ValueError
        If it says none of these.
    """
    path = user_path(name, "--out")
    kind = path.suffix.lower()
    if kind == ".csv":
        table.to_csv(path)
    elif kind == ".parquet":
        table.reset_index().to_parquet(path, index=False)
    elif kind == ".npz":
        columns = table.reset_index()
        np.savez(path, **{str(n): _without_objects(columns[n]) for n in columns})
    else:
        raise ValueError(f"--out {name}: wanted is a .csv, .parquet or .npz file.")


def _without_objects(column: pd.Series) -> Any:
    values = column.to_numpy()
    return values.astype(str) if values.dtype == object else values


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: numbers of Python, null for what is not finite."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
