"""``save`` and ``load``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import sklearn

from skood._version import __version__
from skood.persistence.arrays import StoredArrays
from skood.persistence.decoding import Decoder, names_in
from skood.persistence.encoding import Encoder
from skood.persistence.errors import LoadError
from skood.persistence.folder import (
    ARRAYS,
    NETWORK,
    checked_target,
    read_folder,
    write_folder,
)
from skood.persistence.names import Names
from skood.persistence.networks import (
    StoredNetworks,
    described_networks,
    factory_names,
    given_networks,
    networks_of,
)

__all__ = ["load", "save"]


def save(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    weights: bool = True,
    overwrite: bool = False,
) -> None:
    """Write an estimator, fitted or not, to a folder without pickle.

    The folder holds ``estimator.json``, the parameters and what was learned, with the
    versions of the libraries and digests of all files; ``arrays.safetensors``, the
    arrays; and ``network.safetensors``, the weights of networks. No part of it is at
    the path before all of it is on the disk.

    Parameters
    ----------
    estimator : estimator
        Of skood, scikit-learn, or another package if its state is made of what is
        saved: Python's plain values and containers, NumPy's arrays and generators,
        functions and classes that can be imported, partials and objects of these.
        Also a :class:`~sklearn.pipeline.Pipeline`, a search, and most other
        estimators of estimators.
    path : str or Path
        The folder to make, in one that exists; it may be there and empty.
    weights : bool, default=True
        Whether the weights of networks are written; ``store_network=False`` of a
        transformer leaves its own out too. Their digest is kept in any case.
    overwrite : bool, default=False
        Whether a saved estimator at the path is replaced; a folder that holds
        anything else never is.

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
    architecture. ``memory`` of scikit-learn's estimators, a cache of pickles, is saved
    as None. A folder that is replaced is renamed first and deleted last: between two
    renames, for a moment, there is none at the path. A process killed then or before
    leaves folders whose names begin with a dot and end in ``.part`` (the new one, whole
    if the path is empty) or ``.old``, and never half an estimator at the path.

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
    ['arrays.safetensors', 'estimator.json']
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
    arrays, networks = StoredArrays(), StoredNetworks(weights=weights)
    tree = Encoder(arrays, networks).node(estimator, type(estimator).__name__)
    content = {
        "versions": {
            "skood": __version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
        "networks": networks.about,
        "estimator": tree,
    }
    files = {ARRAYS: arrays.tensors, NETWORK: networks.tensors}
    write_folder(target, content, {name: held for name, held in files.items() if held})


def load(
    path: str | os.PathLike[str],
    *,
    network: Any = None,
    trusted: Iterable[Any] = (),
    mmap: bool = False,
) -> Any:
    """Return the estimator of a folder that :func:`save` wrote.

    No Python code of the folder is run. Only classes of skood, estimators and metrics
    of scikit-learn and what is listed in ``trusted`` are restored; the names in the
    folder are compared with these before anything is imported. A file that differs
    from its digest by a single bit is refused.

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
    outlier, or what makes compiled code of scikit-learn crash, or sizes for which a
    network that skood trained takes all memory. No Python code of the folder is run. A
    transformer's ``cache`` is a path from the folder, used from the first ``transform``
    on; ``set_params(features__cache=None)`` takes it away. A
    :class:`skood.FeatureStore` there has to be trusted, since it opens the folder that
    it names.

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
    names = Names(trusted)
    content, files = read_folder(path)
    given = given_networks(network)
    tree = content["estimator"]
    try:
        about = described_networks(content["networks"])
        if not isinstance(tree, dict) or list(tree) != ["object"]:
            raise LoadError("estimator is no object.")
        wanted = [*names_in(tree), *(factory_names(about) if network is None else ())]
        _check_trusted(names.unknown(wanted))
        networks = networks_of(given, about, files[NETWORK], names)
        decoder = Decoder(names, files[ARRAYS], networks, copy=not mmap)
        return decoder.value(tree, "estimator")
    except LoadError as error:
        raise LoadError(f"{os.fspath(path)}: {error}") from error


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={value!r:.200}: wanted is True or False.")


def _check_trusted(unknown: list[str]) -> None:
    if unknown:
        raise LoadError(
            f"it names what is neither skood's nor an estimator of scikit-learn: "
            f"{', '.join(unknown)}. If you trust all of these, and want their code to "
            f"run, give trusted={unknown!r}."
        )
