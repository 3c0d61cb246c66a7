"""Features in a folder of ``.npy`` files, which travel between processes as paths."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skood.features.head import LinearHead
from skood.features.names import Key

MANIFEST = "features.json"
SCHEMA = 1


class StoredArray:
    """A two-dimensional ``.npy`` file, memory-mapped when first read.

    It pickles as path and digest. When it is opened again the digest is compared with
    the manifest beside the file, so that a file replaced in the meantime is noticed.

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
    """Return the manifest of a folder of saved features."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no saved LayerFeatures ({MANIFEST} is missing)."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / MANIFEST} is damaged: {error}.") from error


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
        entries.append({"name": name, "file": file.name, "digest": digest_of(file)})
    if head is not None:
        np.savez(folder / "head.npz", weight=head.weight, bias=head.bias)
    for view in views:
        view_folder(folder, view).mkdir()
    manifest = {
        "schema": SCHEMA,
        "blocks": entries,
        "head": None if head is None else head.layer,
        "views": list(views),
    }
    text = json.dumps(manifest, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_blocks(
    folder: Path,
) -> tuple[dict[Key, StoredArray], LinearHead | None, list[str]]:
    """Return the blocks, memory-mapped when read, the head, and the views' names."""
    manifest = read_manifest(folder)
    if manifest["schema"] > SCHEMA:
        raise ValueError(
            f"{folder} has format {manifest['schema']}, this version of skood reads up "
            f"to {SCHEMA}: update skood."
        )
    blocks = {
        tuple(entry["name"]): StoredArray(folder / entry["file"], entry["digest"])
        for entry in manifest["blocks"]
    }
    head = None
    if manifest["head"] is not None:
        with np.load(folder / "head.npz", allow_pickle=False) as arrays:
            head = LinearHead(arrays["weight"], arrays["bias"], manifest["head"])
    return blocks, head, manifest["views"]


def view_folder(folder: Path, view: str) -> Path:
    """Return where the features of a paired view are."""
    return folder / f"view-{view}"


def digest_of(path: Path) -> str:
    """Return the hexadecimal BLAKE2b digest of a file's bytes."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            state.update(part)
    return state.hexdigest()


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give a new folder to fill; put it in the place of ``target`` if all went well."""
    if target.exists() and not (target / MANIFEST).is_file():
        raise FileExistsError(
            f"{target} exists and holds no saved LayerFeatures: it is left as it is."
        )
    token = uuid.uuid4().hex[:8]
    fresh = target.with_name(f".{target.name}.{token}.new")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if target.exists():
            old = target.with_name(f".{target.name}.{token}.old")
            os.replace(target, old)
            os.replace(fresh, target)
            shutil.rmtree(old)
        else:
            os.replace(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
