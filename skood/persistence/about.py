"""The text of a folder: written with its own digest, read only if that is right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skood._version import is_newer
from skood.files.digest import digest_of
from skood.persistence.errors import LoadError

__all__ = ["HEAD", "about_text", "parsed_about"]

FORMAT = "skood estimator"
SCHEMA = 1
HEAD = f'{{\n "format": "{FORMAT}",\n'.encode()
"""How the text begins, in every version."""

ENTRIES = {"format", "schema", "versions", "files", "networks", "digest"}

LARGEST = 1 << 22
"""Bytes; what is read of a text takes twenty times as many."""

_TAIL = re.compile(rb',\n "digest": "([0-9a-f]{64})"\n}\n')
_TAIL_BYTES = len(b',\n "digest": ""\n}\n') + 64


def about_text(content: Mapping[str, Any]) -> bytes:
    """Return the text of a folder.

    Parameters
    ----------
    content : mapping of str
        What can stand in JSON; format, schema and digest are added.
    """
    whole = {"format": FORMAT, "schema": SCHEMA, **content}
    body = json.dumps(whole, indent=1, allow_nan=False).encode()[: -len("\n}")]
    return body + f',\n "digest": "{digest_of(body)}"\n}}\n'.encode()


def parsed_about(text: bytes, path: Path) -> dict[str, Any]:
    """Return what a text holds.

    Parameters
    ----------
    text : bytes
        The file's.
    path : Path
        For messages.

    Raises
    ------
    LoadError
        If it is not whole, not what it should be, or of a newer version of skood.
    """
    if not text.startswith(HEAD) or len(text) > LARGEST:
        raise LoadError(f"{path} is not what skood.save writes.")
    body, tail = text[:-_TAIL_BYTES], _TAIL.fullmatch(text[-_TAIL_BYTES:])
    if tail is None or digest_of(body).encode() != tail[1]:
        raise LoadError(f"{path} is damaged: its digest is not the one it names.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    _check_version(content, path)
    if set(content) != ENTRIES:
        raise LoadError(f"{path} has other entries than {sorted(ENTRIES)}.")
    return content


def _check_version(content: Any, path: Path) -> None:
    schema, versions = content.get("schema"), content.get("versions")
    if type(schema) is not int or not isinstance(versions, dict):
        raise LoadError(f"{path} does not say of what version it is.")
    written_by = str(versions.get("skood"))
    if schema > SCHEMA or is_newer(written_by):
        raise LoadError(
            f"{path} was written by skood {written_by} (format {schema}), newer than "
            "this one: update skood to load it."
        )
    if schema < 1:
        raise LoadError(f"{path} has the format {schema}, which there never was.")
