"""Files of ONNX, held against their certificates once more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from skood.export.banks import bounded
from skood.export.certificate import (
    Certificate,
    certificate_of,
    certificate_path,
    described,
    judgement_in,
    rows_digest,
)
from skood.export.inputs import calls
from skood.export.module import OUTPUTS
from skood.export.onnx import KEY, check_installed, session_of
from skood.export.parity import Judgement, Parity
from skood.export.steps import Steps
from skood.features.names import Key
from skood.files.digest import digest_of
from skood.files.paths import user_path

__all__ = ["verify"]


def verify(path: str | Path, held_out: Any, pipeline: Any = None) -> Certificate:
    """Hold a file of ONNX against its certificate once more.

    The file must be the one that was certified, and say of the rows what the pipeline
    says (or said): scores within the certificate's ``rtol``, p-values that go with
    them, and no other decision outside of its band.

    Parameters
    ----------
    path : str or Path
        Of the file; its certificate stands beside it.
    held_out : array-like, tensor, mapping, tuple or LayerFeatures
        Without a pipeline, the rows that were held out at the export, as the network
        takes them: ``preprocess`` done. With one, any, as the pipeline takes them.
    pipeline : Pipeline or detector, optional
        What the file was made of: with the same weights, layers, threshold and
        ``preprocess``. It scores the rows again. Without it, the certificate knows what
        it said of them.

    Returns
    -------
    Certificate
        With the parity as found now.

    Raises
    ------
    ImportError
        If onnxruntime is not installed.
    FileNotFoundError
        If there is no file, or no certificate beside it.
    ValueError
        If the file or its certificate is not the one that was written, the pipeline is
        another one, or the file does not say what the pipeline says.

    Examples
    --------
    >>> import tempfile, numpy as np, skood.export
    >>> from skood import Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> detector = Mahalanobis().fit(X[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/distance.onnx"
    ...     made = skood.export.export(detector, path, X[:2], X[200:])
    ...     again = skood.export.verify(path, X[200:])
    >>> again.parity.score_difference < 1e-9
    True
    """
    check_installed("onnx", "onnxruntime")
    path = user_path(path)
    model = path.read_bytes()
    known = certificate_of(path)
    _check_whole(path, model, known)
    blocks: list[Key] = [(layer, statistic) for layer, statistic in known.layers]
    if pipeline is None:
        judged = [*calls(held_out, blocks)]
        wanted = _remembered(path, known, rows_digest(judged))
    else:
        _check_pipeline(path, known, pipeline)
        if known.bank is not None:
            pipeline = bounded(pipeline, int(known.bank["max_bank"]))
        judged = [*calls(held_out, blocks, Steps.of(pipeline).features)]
        wanted = Judgement.by_pipeline(pipeline, held_out)
    found = Judgement.by_graph(session_of(model), judged)
    parity = Parity.of(wanted, found, known.threshold, known.band)
    faults = parity.faults(known.rtol)
    if faults:
        raise ValueError(
            f"{path} does not say what the pipeline says: of {parity.rows} rows, "
            f"{faults}."
        )
    return replace(known, parity=parity)


def _check_whole(path: Path, content: bytes, known: Certificate) -> None:
    """Raise ValueError unless file and certificate were written together."""
    import onnx

    if digest_of(content) != known.file_digest:
        raise ValueError(
            f"{path} is not the file that its certificate is of: its digest is "
            f"{digest_of(content)[:16]}..., and {str(known.file_digest)[:16]}... was "
            "certified. Export it again."
        )
    model = onnx.load_model_from_string(content)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    inside, beside = json.loads(texts.get(KEY, "{}")), known.as_json(inside=True)
    other = [name for name in beside if inside.get(name) != beside[name]]
    if other:
        raise ValueError(
            f"{certificate_path(path)} does not say what the certificate inside of "
            f"{path} says, of {', '.join(other)}: one has been changed. Export again."
        )
    names = [one.name for one in model.graph.output]
    if names != [*OUTPUTS]:
        raise ValueError(
            f"{path} has the outputs {', '.join(names)}: wanted are "
            f"{', '.join(OUTPUTS)}, in this order. Export it again."
        )


def _remembered(path: Path, known: Certificate, digest: str) -> Judgement:
    if known.reference is None or digest != known.rows_digest:
        raise ValueError(
            f"held_out are not the rows on which {path} was certified: give these, or "
            "the pipeline, which scores any."
        )
    return judgement_in(known.reference)


_SAME = ("threshold", "layers", "network_digest", "preprocess_digest")
"""What a certificate says of a pipeline that makes it another one."""


def _check_pipeline(path: Path, known: Certificate, pipeline: Any) -> None:
    """Raise ValueError if a pipeline is not the one that a file was made of."""
    own = described(pipeline)
    for name in _SAME:
        if own[name] != getattr(known, name):
            raise ValueError(
                f"the pipeline has {name}={own[name]!r}, and {path} was exported with "
                f"{getattr(known, name)!r}: export it again."
            )
