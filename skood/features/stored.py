"""Features in a folder of ``.npy`` files, which travel between processes as paths."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skood.features.head import LinearHead
from skood.features.names import Key
from skood.files.digest import file_digest
from skood.files.folder import replacing_folder

MANIFEST = "features.json"
HEAD = "head.npz"
SCHEMA = 1

_compared: dict[tuple[Path, str], tuple[int, int, int]] = {}
"""The files that this process has found to be what was saved."""


class StoredArray:
    """A two-dimensional ``.npy`` file, memory-mapped when first read.

    It pickles as path and digest. When a process first opens it the digest is compared
    with the manifest beside the file and with the file's bytes, so that one replaced or
    damaged in the meantime is noticed.

    Parameters
    ----------
    path : Path
        The ``.npy`` file.
    digest : str
        Its digest as its folder's manifest has it.
    """

    ndim = 2
    pickles_as_path = True

    def __init__(self, path: Path, digest: str) -> None:
        self.path = Path(path)
        self.digest = digest
        self._mapped: NDArray[Any] | None = None

    @property
    def mapped(self) -> NDArray[Any]:
        """The memory map; raises ``ValueError`` if the file is no longer the same."""
        if self._mapped is None:
            entries = read_manifest(self.path.parent)["blocks"]
            known = {entry["file"]: entry["digest"] for entry in entries}
            if known.get(self.path.name) != self.digest:
                raise ValueError(
                    f"{self.path} holds other features than when this object was "
                    "made: load them again with LayerFeatures.load."
                )
            check_digest(self.path, self.digest)
            self._mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return self._mapped

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.mapped.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        return self.mapped.dtype

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return self.mapped[key]

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.array(self.mapped, dtype=dtype, copy=copy)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "digest": self.digest, "_mapped": None}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder of saved features.

    Raises
    ------
    ValueError
        If there is none, it is not what :meth:`LayerFeatures.save` writes, or a later
        version of skood has written it.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = int(manifest["schema"])
        checked = _checked(manifest) if schema <= SCHEMA else {}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{folder} holds no saved LayerFeatures ({MANIFEST} is missing)."
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}): save the features "
            "again."
        ) from error
    if schema > SCHEMA:
        raise ValueError(
            f"{folder} has format {schema}, this version of skood reads up to "
            f"{SCHEMA}: update skood."
        )
    return checked


def _checked(manifest: Any) -> dict[str, Any]:
    """Return a manifest if its parts are of the kinds that they have to be."""
    blocks, head, views = (manifest[name] for name in ("blocks", "head", "views"))
    files = [(entry["file"], entry["digest"]) for entry in blocks]
    keys = [tuple(entry["name"]) for entry in blocks]
    texts = [*views, *(text for parts in (*files, *keys) for text in parts)]
    named = [*views, *(file for file, _ in files)]
    if not all(isinstance(text, str) for text in texts) or {len(k) for k in keys} != {
        2
    }:
        raise ValueError("names are no texts")
    if any(Path(name).name != name for name in named):
        raise ValueError("names of files lead elsewhere")
    of_head = () if head is None else (head, manifest["head_digest"])
    if not all(isinstance(text, str) for text in of_head):
        raise ValueError("the head is no layer")
    return dict(manifest)


_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""What comes of reading a text that somebody else has written."""


def write_blocks(
    folder: Path,
    blocks: Mapping[Key, NDArray[Any]],
    head: LinearHead | None,
    views: Sequence[str],
) -> None:
    """Write arrays and a manifest; make the folders of the named views."""
    entries = []
    for number, (name, block) in enumerate(blocks.items()):
        file = folder / f"block{number}.npy"
        np.save(file, block, allow_pickle=False)
        entries.append({"name": name, "file": file.name, "digest": file_digest(file)})
    about_head = {}
    if head is not None:
        np.savez(folder / HEAD, weight=head.weight, bias=head.bias)
        about_head = {"head_digest": file_digest(folder / HEAD)}
    for view in views:
        view_folder(folder, view).mkdir()
    manifest = {
        "schema": SCHEMA,
        "blocks": entries,
        "head": None if head is None else head.layer,
        **about_head,
        "views": list(views),
    }
    text = json.dumps(manifest, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_blocks(
    folder: Path,
) -> tuple[dict[Key, StoredArray], LinearHead | None, list[str]]:
    """Return the blocks, memory-mapped when read, the head, and the views' names."""
    manifest = read_manifest(folder)
    blocks = {
        tuple(entry["name"]): StoredArray(folder / entry["file"], entry["digest"])
        for entry in manifest["blocks"]
    }
    head = None
    if manifest["head"] is not None:
        check_digest(folder / HEAD, manifest["head_digest"])
        with np.load(folder / HEAD, allow_pickle=False) as arrays:
            head = LinearHead(arrays["weight"], arrays["bias"], manifest["head"])
    return blocks, head, manifest["views"]


def view_folder(folder: Path, view: str) -> Path:
    """Return where the features of a paired view are."""
    return folder / f"view-{view}"


def check_digest(path: Path, digest: str) -> None:
    """Compare a file with its digest, once in a process while it stays as it is.

    Raises
    ------
    ValueError
        If they differ, or the file is not there.
    """
    try:
        about = path.stat()
        stamp = about.st_ino, about.st_size, about.st_mtime_ns
        if _compared.get((path, digest)) == stamp:
            return
        found = file_digest(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if found != digest:
        raise ValueError(
            f"{path} is damaged: its bytes are not those that were saved. Save the "
            "features again."
        )
    _compared[path, digest] = stamp


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give a new folder to fill; put it in the place of ``target`` if all went well."""
    if target.exists() and not (target / MANIFEST).is_file():
        raise FileExistsError(
            f"{target} exists and holds no saved LayerFeatures: it is left as it is."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(target) as fresh:
        yield fresh
