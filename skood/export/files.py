"""Files of ONNX with their certificates: written, and verified again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skood.export.banks import bounded
from skood.export.certificate import (
    Certificate,
    described,
    drift,
    judgement_in,
    reference_of,
    rows_digest,
)
from skood.export.inputs import Called, calls
from skood.export.module import DetectorModule, to_module
from skood.export.onnx import (
    KEY,
    check_installed,
    input_names,
    onnx_model,
    session_of,
)
from skood.export.parity import BAND, RTOL, Judgement, Parity
from skood.export.steps import Steps
from skood.features.names import Key
from skood.files.atomic import replacing, write_text
from skood.files.digest import digest_of
from skood.files.paths import user_path

__all__ = ["export", "verify"]

MAX_BANK = 20_000
MAX_BYTES = 2**31 - 1
"""Of a file of ONNX that holds its own weights."""


def export(
    pipeline: Any,
    path: str | Path,
    example: Any,
    held_out: Any = None,
    *,
    module: DetectorModule | None = None,
    max_bank: int | None = MAX_BANK,
    rtol: float = RTOL,
    band: float = BAND,
    dynamic: Sequence[int] = (0,),
) -> Certificate:
    """Write a fitted pipeline as a file of ONNX, with a certificate beside and inside.

    The file's outputs are ``output``, ``score``, ``p_value`` and ``is_inlier``, as
    those of :func:`to_module`. It is run, in onnxruntime, on the rows held out, and
    nothing is written unless it says of them what the pipeline says.

    The certificate is ``<path>.json`` and, without the rows' scores, stands under
    ``skood.certificate`` in the file's metadata.

    Parameters
    ----------
    pipeline : Pipeline or detector
        Fitted; see :func:`to_module`.
    path : str or Path
        Of the file to be written, ``"detector.onnx"`` say.
    example : array-like, tensor, mapping, tuple or LayerFeatures
        At least two inputs, as the pipeline takes them: what is made of them for the
        network has the types of the file's inputs, and their shapes but for the rows.
    held_out : same kind, optional
        Rows that neither network nor detector was fitted on, on which the file is
        compared with the pipeline; by default the example.
    module : DetectorModule, optional
        What becomes the file, in the place of ``to_module(pipeline)``: one that has
        been changed (to other weights, say) and is to be held against the pipeline.
    max_bank : int or None, default=20_000
        Training rows that a detector of nearest rows (KNN, NNGuide, NAP, ...) takes
        with it; the certificate says by how much scores drift where it has more. None
        takes all of them.
    rtol : float, default=1e-4
        The difference of scores that is let pass, relative to the score or, where that
        is larger, to the scores' standard deviation.
    band : float, default=1e-4
        How near to the threshold, relative to it or to the scores' standard deviation,
        a row's decision may differ.
    dynamic : sequence of int, default=(0,)
        The axes of inputs whose size may be any. ``(0, 1)`` for texts of any length.

    Returns
    -------
    Certificate

    Raises
    ------
    ImportError
        If the extra ``export`` is not installed.
    TypeError
        If a step has no graph; the message says why.
    ValueError
        If the file would not say what the pipeline says, or the example has one row.
        Nothing is written then.

    Examples
    --------
    >>> import tempfile, numpy as np, skood.export
    >>> from skood import KNN
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> detector = KNN().fit(X[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     certificate = skood.export.export(
    ...         detector, f"{folder}/knn.onnx", X[:2], X[200:]
    ...     )
    >>> certificate.parity.flips, certificate.parity.rows
    (0, 100)
    """
    check_installed()
    rows = example if held_out is None else held_out
    smaller = pipeline if max_bank is None else bounded(pipeline, max_bank)
    made = to_module(smaller, example) if module is None else module
    wanted = Judgement.by_pipeline(smaller, rows)
    features = Steps.of(pipeline).features
    called = next(calls(example, made.blocks, features))
    _check_example(called)
    judged = [*calls(rows, made.blocks, features)]
    model = onnx_model(made, called, dynamic)
    if model.ByteSize() > MAX_BYTES:
        raise ValueError(
            f"the file would have {model.ByteSize() / 1e9:.1f} GB, and one of ONNX "
            "has 2 GB at most: take a smaller max_bank, or a smaller network."
        )
    found = Judgement.by_graph(session_of(model.SerializeToString()), judged)
    known = described(smaller)
    parity = Parity.of(wanted, found, known["threshold"], band)
    faults = parity.faults(rtol)
    if faults:
        raise ValueError(
            f"{path} is not written, since it would not say what the pipeline says: "
            f"of {parity.rows} rows, {faults}."
        )
    certificate = Certificate(
        **known,
        inputs=_inputs(made, called, dynamic),
        rtol=rtol,
        band=band,
        parity=parity,
        bank=_bank(pipeline, smaller, rows, wanted),
        rows_digest=rows_digest(judged),
    )
    return _written(
        user_path(path), model, replace(certificate, reference=reference_of(wanted))
    )


def verify(path: str | Path, held_out: Any, pipeline: Any = None) -> Certificate:
    """Hold a file of ONNX against its certificate once more.

    The file must be the one that was certified, and say of the rows what the pipeline
    says (or said): scores within the certificate's ``rtol``, and no other decision
    outside of its band.

    Parameters
    ----------
    path : str or Path
        Of the file; its certificate stands beside it.
    held_out : array-like, tensor, mapping, tuple or LayerFeatures
        Without a pipeline, the rows that were held out at the export, as the network
        takes them: ``preprocess`` done. With one, any, as the pipeline takes them.
    pipeline : Pipeline or detector, optional
        What the file was made of; then its threshold must be the file's, and it scores
        the rows again. Without it, the certificate knows what it said of them.

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
        If the file is not the one that was certified, or does not say what the
        pipeline says.

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
    known = Certificate.read(_beside(path).read_text())
    _check_whole(path, model, known)
    blocks: list[Key] = [(layer, statistic) for layer, statistic in known.layers]
    if pipeline is None:
        judged = [*calls(held_out, blocks)]
        wanted = _remembered(path, known, rows_digest(judged))
    else:
        judged = [*calls(held_out, blocks, Steps.of(pipeline).features)]
        wanted = Judgement.by_pipeline(pipeline, held_out)
        _check_threshold(path, known, pipeline)
    found = Judgement.by_graph(session_of(model), judged)
    parity = Parity.of(wanted, found, known.threshold, known.band)
    faults = parity.faults(known.rtol)
    if faults:
        raise ValueError(
            f"{path} does not say what the pipeline says: of {parity.rows} rows, "
            f"{faults}."
        )
    return replace(known, parity=parity)


def _check_example(called: Called) -> None:
    tensors = [*called[0], *called[1].values()]
    if min(len(tensor) for tensor in tensors) < 2:
        raise ValueError(
            "example has one row, which a graph would be made for: give at least two."
        )


def _written(path: Path, model: Any, certificate: Certificate) -> Certificate:
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, certificate.text(inside=True)
    content = model.SerializeToString()
    whole = replace(certificate, file_digest=digest_of(content))
    with replacing(path) as file:
        file.write(content)
    write_text(_beside(path), whole.text())
    return whole


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _check_whole(path: Path, model: bytes, known: Certificate) -> None:
    if digest_of(model) != known.file_digest:
        raise ValueError(
            f"{path} is not the file that its certificate is of: its digest is "
            f"{digest_of(model)[:16]}..., and {str(known.file_digest)[:16]}... was "
            "certified. Export it again."
        )


def _remembered(path: Path, known: Certificate, digest: str) -> Judgement:
    if known.reference is None or digest != known.rows_digest:
        raise ValueError(
            f"held_out are not the rows on which {path} was certified: give these, or "
            "the pipeline, which scores any."
        )
    return judgement_in(known.reference)


def _check_threshold(path: Path, known: Certificate, pipeline: Any) -> None:
    threshold = float(Steps.of(pipeline).detector.offset_)
    if threshold != known.threshold:
        raise ValueError(
            f"the pipeline has the threshold {threshold!r}, and {path} was exported "
            f"with {known.threshold!r}: export it again."
        )


def _inputs(
    module: DetectorModule, called: Any, dynamic: Sequence[int]
) -> list[dict[str, Any]]:
    tensors = [*called[0], *called[1].values()]
    free = {0: "n"} | {axis: f"axis {axis}" for axis in dynamic if axis}
    return [
        {
            "name": name,
            "type": str(tensor.dtype).removeprefix("torch."),
            "shape": [free.get(axis, size) for axis, size in enumerate(tensor.shape)],
        }
        for name, tensor in zip(input_names(module, called), tensors, strict=True)
    ]


def _bank(
    pipeline: Any, smaller: Any, rows: Any, wanted: Judgement
) -> dict[str, float] | None:
    """Return what a smaller bank does to scores and decisions; None with all of it."""
    if smaller is pipeline:
        return None
    full = Judgement.by_pipeline(pipeline, rows)
    flips = float(np.mean(full.inliers != wanted.inliers))
    return {**drift(full.scores, wanted.scores), "changed_decisions": flips}
