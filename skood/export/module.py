"""A fitted pipeline as one torch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skood.export.capture import FeatureCapture
from skood.export.formula import Formula, traced
from skood.export.steps import Steps
from skood.features import Key
from skood.numerics.arrays import on_host

__all__ = ["OUTPUTS", "DetectorModule", "to_module"]

OUTPUTS = ("output", "score", "p_value", "is_inlier")

Judged = tuple[Tensor, Tensor, Tensor, Tensor]


class DetectorModule(nn.Module):
    """Network, features, detector and threshold as one module; :func:`to_module`.

    Parameters
    ----------
    capture : nn.Module or None
        From inputs to the network's output and blocks; None for a detector of arrays,
        which the forward is given block by block.
    formula : nn.Module
        From blocks to scores, p-values and decisions.
    blocks : list of (layer, statistic)
        The names of the blocks.
    dtype : torch.dtype
        Of the blocks.
    """

    def __init__(
        self,
        capture: nn.Module | None,
        formula: nn.Module,
        blocks: list[Key],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.capture, self.formula = capture, formula
        self.blocks, self.dtype = blocks, dtype

    def forward(self, input: Any = None, *others: Any, **named: Any) -> Judged:
        """Return the network's output, scores, p-values and decisions.

        Parameters
        ----------
        input, *others, **named : tensor
            What the network is called with. Without a network, the blocks: of a plain
            array one of shape (n_samples, n_features).

        Returns
        -------
        output : tensor of shape (n_samples, ...)
            Of the network; without one, the features as they came, side by side.
        score : tensor of float64, shape (n_samples,)
            The pipeline's ``score_samples``.
        p_value : tensor of float64, shape (n_samples,)
            The pipeline's ``p_values``, NaN for a detector that has none.
        is_inlier : tensor of bool, shape (n_samples,)
            Whether ``predict`` says +1.
        """
        args = others if input is None else (input, *others)
        if self.capture is None:
            blocks = args
            output = torch.cat(args, dim=1) if others else args[0]
        else:
            output, blocks = self.capture(*args, **named)
        score, p_value, is_inlier = self.formula(*(x.to(self.dtype) for x in blocks))
        return output, score, p_value, is_inlier


def to_module(pipeline: Any, example: Any = None) -> DetectorModule:
    r"""Return a fitted pipeline as one :class:`torch.nn.Module`.

    Its forward maps inputs to (output, score, p_value, is_inlier). It needs neither
    skood's fitted objects nor scikit-learn to run, works under ``torch.export`` with
    any number of rows, under ``torch.compile`` and ``torch.onnx``, and scores as the
    pipeline does: the detector's own formula is run once on tensors, and what it did is
    the graph. In it, whitening and everything else that cancels is in float64.

    The network is a copy, in evaluation mode and on the CPU: training goes on without
    changing the module. What a pipeline checks is not checked here: NaN in the input
    is NaN in the score and no inlier. ``preprocess`` stays outside: give the module
    what the network takes.

    Parameters
    ----------
    pipeline : Pipeline or detector
        Fitted. A pipeline begins with a :class:`~skood.LayerFeatureTransformer` and
        ends in a detector; between them may stand :class:`~skood.LayerSelector`,
        :class:`~skood.NormRescaledHead`, ``StandardScaler`` and ``PCA``. Or a
        detector of arrays or layer features alone, whose module takes the blocks that
        it reads (``module.blocks``) in order. Ensembles, and detectors within
        :class:`~skood.ConformalDetector` and :class:`~skood.TargetRateThreshold`, too.
    example : array-like, tensor, mapping, or LayerFeatures, optional
        Some inputs, as the pipeline takes them. If they are given, the module's scores
        of them are compared with the pipeline's, and without a network its blocks have
        their type, else float64.

    Returns
    -------
    DetectorModule

    Raises
    ------
    NotFittedError
        If a step is not fitted.
    TypeError
        If a step has no graph; the message says why. ``skood.all_detectors()`` says
        of every detector whether it has one.
    ValueError
        If the scores of the example are not those of the pipeline.

    See Also
    --------
    skood.export.export : The same as an ONNX file, with a certificate.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skood import Mahalanobis, to_module
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = Mahalanobis().fit(X)
    >>> module = to_module(detector)
    >>> output, score, p_value, is_inlier = module(torch.as_tensor(X[:4]))
    >>> np.allclose(score, detector.score_samples(X[:4]))
    True
    >>> is_inlier.tolist()
    [True, True, True, True]
    """
    steps = Steps.of(pipeline)
    widths = steps.widths
    capture = None
    if steps.features is not None:
        capture = _captured(steps.features, list(widths))
    dtype = _dtype(steps, example)
    formula = Formula(steps.scored, float(steps.detector.offset_), list(widths))
    module = DetectorModule(capture, traced(formula, widths, dtype), [*widths], dtype)
    module.eval()
    if example is not None:
        from skood.export.parity import check_parity

        check_parity(module, pipeline, example)
    return module


def _captured(transformer: Any, keys: list[Key]) -> FeatureCapture:
    network = transformer._known_module()
    found = transformer._probe
    if transformer.autocast:
        raise ValueError(
            f"autocast={transformer.autocast!r}: the features of the fit are of mixed "
            "precision, which a graph does not have. Fit with autocast=False, or with "
            "a network in half precision."
        )
    if found.written:
        raise ValueError(
            "the network writes to itself in evaluation mode "
            f"({', '.join(map(repr, found.written))}), so that its rows would depend "
            "on those before."
        )
    return FeatureCapture(network, keys, found, transformer.dtype, transformer.mask)


def _dtype(steps: Steps, example: Any) -> torch.dtype:
    """Return the type in which blocks are scored: the one that the pipeline has."""
    if steps.features is not None:
        given = np.dtype(steps.features.dtype)
    elif example is None:
        return torch.float64
    else:
        given = getattr(on_host(example), "dtype", np.dtype(np.float64))
    return torch.float32 if given in (np.float16, np.float32) else torch.float64
