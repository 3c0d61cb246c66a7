"""Layer features in files: skood's own, and those of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from numpy.typing import ArrayLike

from skood.features.arrow import dataset_blocks, parquet_blocks, write_parquet
from skood.features.head import LinearHead
from skood.features.names import Layers
from skood.features.stored import (
    read_blocks,
    replaced_folder,
    view_folder,
    write_blocks,
)
from skood.files.paths import user_path

if TYPE_CHECKING:
    from skood.features.layer_features import LayerFeatures

__all__ = ["InFiles"]

Self = TypeVar("Self", bound="InFiles")


class InFiles:
    """The methods of :class:`LayerFeatures` that write and open files."""

    if TYPE_CHECKING:

        def __init__(
            self,
            blocks: Mapping[Any, Any],
            head: LinearHead | None = None,
            views: Mapping[str, Any] | None = None,
        ) -> None: ...

    def save(self, path: str | Path) -> None:
        """Write the rows to a folder, which appears whole or not at all.

        Parameters
        ----------
        path : str or Path
            The folder: one ``.npy`` file a block and a small manifest. Features
            saved there before are replaced.

        Raises
        ------
        FileExistsError
            If the path holds something else.
        """
        with replaced_folder(user_path(path)) as folder:
            _write(cast("LayerFeatures", self), folder)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Open saved features; the arrays are memory-mapped.

        Each process compares a file's bytes with the digest that :meth:`save` wrote,
        once while the file stays as it is.

        Parameters
        ----------
        path : str or Path
            A folder written by :meth:`save`.

        Returns
        -------
        LayerFeatures
            It pickles as path, digest and row numbers.

        Raises
        ------
        ValueError
            If the folder holds no features, ones that are damaged, or ones of a newer
            version of skood.
        """
        folder = user_path(path).absolute()
        blocks, head, names = read_blocks(folder)
        views = {name: cls.load(view_folder(folder, name)) for name in names}
        return cls(blocks, head, views)

    def to_parquet(
        self, path: str | Path, columns: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Write the rows to a Parquet file, for other programs.

        A block is a column of lists of one length, ``layer/statistic``; the head goes
        into the metadata. The file appears whole or not at all, and memory does not
        depend on the number of rows.

        Parameters
        ----------
        path : str or Path
            The file; one that is there is replaced.
        columns : mapping of str to array-like of shape (n_samples,), optional
            What else each row has: labels, keys.

        Raises
        ------
        ValueError
            If there are paired views, for which Parquet has no place, or a column is
            of another length or has the name of a block.
        ImportError
            If pyarrow is not installed.

        See Also
        --------
        save : For skood itself: views go along, and rows are read faster.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from skood import LayerFeatures
        >>> features = LayerFeatures({"conv1": np.eye(3)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     features.to_parquet(f"{folder}/f.parquet", {"label": [0, 1, 0]})
        ...     LayerFeatures.from_parquet(f"{folder}/f.parquet")
        LayerFeatures(3 rows: conv1/avg 3)
        """
        write_parquet(path, cast("LayerFeatures", self), columns or {})

    @classmethod
    def from_parquet(
        cls: type[Self],
        path: str | Path | Sequence[str | Path],
        layers: Mapping[Any, str] | Layers = None,
        head: LinearHead | None = None,
    ) -> Self:
        """Open features in Parquet files, whoever has written them.

        Rows are read when they are wanted, a row group at a time, and go to workers as
        paths and numbers.

        Parameters
        ----------
        path : str, Path or sequence of these
            A file, a folder whose ``.parquet`` files are taken in the order of their
            names, or several.
        layers : mapping of name to column, or columns, optional
            Which columns of lists are blocks: a mapping from a layer or a (layer,
            statistic) pair, or names of the form ``layer/statistic``. None takes those
            that :meth:`to_parquet` has noted, else all of that form, and ``"logits"``.
        head : LinearHead, optional
            None takes the one that :meth:`to_parquet` has kept.

        Returns
        -------
        LayerFeatures

        Raises
        ------
        FileNotFoundError
            If there is no file.
        ValueError
            If there is no such column, or its rows are no numbers of one length.
        ImportError
            If pyarrow is not installed.

        See Also
        --------
        skood.features.arrow.read_column : Labels, in the order of the rows.
        """
        blocks, kept = parquet_blocks(path, layers)
        return cls(blocks, head or kept)

    @classmethod
    def from_huggingface(
        cls: type[Self],
        dataset: Any,
        layers: Mapping[Any, str] | Layers = None,
        head: LinearHead | None = None,
    ) -> Self:
        """Take columns of a ``datasets.Dataset`` as blocks.

        Rows are read when they are wanted; of a data set in files, they go to workers
        as paths and numbers.

        Parameters
        ----------
        dataset : datasets.Dataset
            With columns of lists.
        layers : mapping of name to column, or columns, optional
            As in :meth:`from_parquet`.
        head : LinearHead, optional
            The network's last linear map.

        Returns
        -------
        LayerFeatures

        Raises
        ------
        ValueError
            If there is no such column, or its rows are no numbers of one length.
        """
        return cls(dataset_blocks(dataset, layers), head)


def _write(features: LayerFeatures, folder: Path) -> None:
    blocks = {name: features.block(*name) for name in features.block_names}
    write_blocks(folder, blocks, features.head, list(features.views))
    for name, view in features.views.items():
        _write(view, view_folder(folder, name))
