"""``save`` and ``load``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops

from skood._version import __version__
from skood.files import tensors
from skood.files.digest import file_digest
from skood.files.folder import write_folder
from skood.persistence.about import about_text
from skood.persistence.archive import checked_archive, packed, restored
from skood.persistence.callers_network import callers_networks
from skood.persistence.errors import LoadError
from skood.persistence.folder import (
    ABOUT,
    ARRAYS,
    ESTIMATOR,
    NETWORK,
    checked_target,
    mapped_arrays,
    read_folder,
    read_network,
    write_network,
)
from skood.persistence.networks import (
    StoredNetworks,
    described_networks,
    factory_names,
    networks_of,
)
from skood.persistence.stored import Beside
from skood.persistence.trust import allowed_names, found, trusted_names
from skood.persistence.writer import OTHERWISE, Writer

__all__ = ["load", "save"]


def save(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    weights: bool = True,
    overwrite: bool = False,
) -> None:
    """Write an estimator, fitted or not, to a folder without pickle.

    The folder holds ``estimator.skops``, the parameters and what was learned;
    ``arrays.safetensors``, its arrays; ``network.safetensors``, the weights of
    networks; and ``about.json``, with the versions of the libraries, what the networks
    must be, and digests of all files. No part of it is at the path before all of it is
    on the disk, and has been read once.

    Parameters
    ----------
    estimator : estimator
        Of skood, scikit-learn, or another package if its state is made of what is
        saved: Python's plain values and containers, NumPy's arrays and generators,
        functions and classes that can be imported, fast tokenizers, partials and
        objects of these. Also a :class:`~sklearn.pipeline.Pipeline`, a search, and
        most other estimators of estimators.
    path : str or Path
        The folder to make, in one that exists; it may be there and empty.
    weights : bool, default=True
        Whether the weights of networks are written; ``store_network=False`` of a
        transformer leaves its own out too. Their digest is kept in any case.
    overwrite : bool, default=False
        Whether a saved estimator at the path is replaced; a folder that holds
        anything else never is. Who may read the old files may read the new ones.

    Raises
    ------
    FileExistsError
        If the path exists and may not be replaced, or somebody else writes there at
        the same time.
    FileNotFoundError
        If the folder around the path is not there.
    TypeError
        If a part of the estimator is of a kind that is not saved; the message says
        which, and what to do.
    ValueError
        If a network is not the one seen in ``fit``, or is missing and its weights are
        to be written.

    Warns
    -----
    UserWarning
        If a class or function of ``__main__`` is named, which other processes may not
        have.

    See Also
    --------
    load : The opposite.

    Notes
    -----
    The code of a network is not saved: :func:`load` takes a network of the same
    architecture. What is called ``memory`` (of scikit-learn's estimators, a cache of
    pickles) is saved as None, and ``compile`` (of skorch's nets) as False. A folder
    that is replaced is renamed first and deleted last: between two renames, for a
    moment, there is none at the path. A process killed then or before leaves folders
    whose names begin with a dot and end in ``.part`` (the new one, whole if the path is
    empty) or ``.old``, and never half an estimator at the path; the next save to the
    path deletes those that nobody has written to for an hour.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import skood
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> detector = skood.KNN(5).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "detector"
    ...     skood.save(detector, path)
    ...     files = sorted(file.name for file in path.iterdir())
    ...     loaded = skood.load(path)
    >>> files
    ['about.json', 'arrays.safetensors', 'estimator.skops']
    >>> bool((loaded.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    _check_flags(weights=weights, overwrite=overwrite)
    if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        raise TypeError(
            f"estimator is {estimator!r:.200}; wanted is an estimator, a detector or "
            "Pipeline say. (LayerFeatures have a method save of their own.)"
        )
    target = checked_target(path, overwrite)
    networks = StoredNetworks(weights=weights)
    writer = Writer(networks)
    archive = _archive(estimator, writer)
    arrays = {f"{number}": array for number, array in enumerate(writer.arrays)}
    files: dict[str, Callable[[Path], Any]] = {
        ESTIMATOR: lambda file: file.write_bytes(archive)
    }
    if arrays:
        files[ARRAYS] = lambda file: tensors.write(file, arrays)
    if networks.tensors:
        files[NETWORK] = lambda file: write_network(file, networks.tensors)
    content = {"versions": _versions(), "networks": networks.about}

    def write_about(file: Path) -> None:
        digests = {name: file_digest(file.with_name(name)) for name in files}
        file.write_bytes(about_text({**content, "files": digests}))

    write_folder(target, {**files, ABOUT: write_about})


def _versions() -> dict[str, str]:
    return {
        "skood": __version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "skops": skops.__version__,
    }


def _archive(estimator: Any, writer: Writer) -> bytes:
    """Return the skops file of an estimator, once it has been read back."""
    tree = writer.tree(estimator, type(estimator).__name__)
    try:
        data = packed(tree)
        names, _ = checked_archive(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            restored(data, Beside(writer.arrays, writer.networks.known, names))
    except Exception as error:
        raise TypeError(
            f"{type(estimator).__name__} is not saved without pickle: {error} "
            f"{OTHERWISE}"
        ) from error
    return data


def load(
    path: str | os.PathLike[str],
    *,
    network: Any = None,
    trusted: Iterable[Any] = (),
    mmap: bool = False,
) -> Any:
    """Return the estimator of a folder that :func:`save` wrote.

    No Python code of the folder is run. Only types of :func:`skood.trusted_types`, what
    `skops <https://skops.readthedocs.io>`_ trusts of scikit-learn and NumPy, and what
    is listed in ``trusted`` are restored or named; the names in the folder are compared
    with these before anything is imported. A file that differs from its digest by a
    single bit is refused.

    Parameters
    ----------
    path : str or Path
        The folder.
    network : nn.Module, fitted skorch net, callable, or sequence of these, optional
        The network, or what makes it, as :class:`skood.LayerFeatureTransformer` takes
        it; one for each, in order, where there are several. If the folder has weights
        that differ from the network's, a copy of it gets them, and the caller's own is
        left as it is (what a callable makes is not copied). If the folder has no
        weights, the network must have the ones seen by :func:`save`, and the same
        buffers. Without a network the estimator is loaded all the same; ``set_params(
        network=...)`` gives it the very network of ``fit``, not the folder's weights.
    trusted : sequence of str, class or function, default=()
        What else may be restored or named: ``"mypackage.MyScaler"``, or the class
        itself. Names are imported, and their code runs.
    mmap : bool, default=False
        Whether arrays are read-only maps of the file, which processes share, instead
        of being read into memory. Then ``partial_fit`` may fail, and the folder has to
        stay.

    Returns
    -------
    estimator

    Raises
    ------
    FileNotFoundError
        If there is no such path.
    skood.persistence.LoadError
        A :class:`ValueError`: if the folder is damaged, is of a newer version of skood,
        names classes or functions that are not trusted, or the network is of another
        kind.
    TypeError
        If an argument is not of a kind named above.

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        If another version of scikit-learn wrote its estimators.

    See Also
    --------
    save : The opposite.

    Notes
    -----
    The digests are for damage, not a signature: whoever can write the folder can make
    it say anything that an estimator's numbers can say, such as that no row is an
    outlier, or sizes for which a network that skood trained takes all memory.
    Scikit-learn's trees (``sklearn.tree._tree.Tree`` of forests,
    ``sklearn.neighbors._kd_tree.KDTree``) take your trust, since its compiled code
    follows their numbers wherever they lead. A transformer's ``cache`` is a path from
    the folder, used from the first ``transform`` on;
    ``set_params(features__cache=None)`` takes it away. A :class:`skood.FeatureStore`
    there has to be trusted, since it opens the folder that it names.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> import skood
    >>> from sklearn.pipeline import make_pipeline
    >>> def make_network():
    ...     return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    >>> X = torch.rand(50, 4)
    >>> features = skood.LayerFeatureTransformer(make_network(), "1")
    >>> pipeline = make_pipeline(features, skood.Mahalanobis()).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skood.save(pipeline, Path(folder) / "pipeline")
    ...     loaded = skood.load(Path(folder) / "pipeline", network=make_network)
    >>> bool((loaded.predict(X) == pipeline.predict(X)).all())
    True
    """
    _check_flags(mmap=mmap)
    names = trusted_names(trusted)
    content, files = read_folder(path)
    given = callers_networks(network)
    try:
        about = described_networks(content["networks"])
        factories = factory_names(about) if given is None else []
        archive = files[ESTIMATOR].tobytes()
        allowed = allowed_names(archive, names, factories)
        networks = networks_of(
            given, about, lambda: read_network(files, path), lambda n: found(n, names)
        )
        arrays = mapped_arrays(files, path, copy=not mmap)
        return _loaded(archive, Beside(arrays, networks, allowed))
    except LoadError as error:
        raise LoadError(f"{os.fspath(path)}: {error}") from error


def _loaded(data: bytes, parts: Beside) -> Any:
    try:
        return restored(data, parts)
    except (LoadError, Warning):
        raise
    except Exception as error:
        raise LoadError(
            f"estimator.skops cannot be read: {type(error).__name__}: {error}"
        ) from error


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={value!r:.200}: wanted is True or False.")
