"""Latent sequential Gaussian mixture: the likelihood of a trace through the layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial, reduce
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.layers.base import LayerDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import merged_statistics
from skood.mixtures.em import MixtureFit
from skood.mixtures.mixture import Mixture
from skood.mixtures.paths import TransitionCounts
from skood.mixtures.rows import LayerRows
from skood.mixtures.sequence import MixtureSequence
from skood.numerics.device import array_namespace, to_numpy

__all__ = ["LSGM"]

BLOCK_ROWS = 4096

ROWS_PER_COMPONENT = 20
"""With fewer, a component is a few rows' own, and a new row falls between all."""


class LSGM(LayerDetector):
    r"""Likelihood of an input's trace through mixtures over several layers.

    Each layer has a mixture of Gaussians [1]_. The component that an input falls into
    is treated as a hidden state, and a matrix of transition probabilities ties each
    layer's components to those of the next. The score is the log of the joint
    likelihood of all layers' features, summed over all paths of components
    :math:`z_1 \dots z_m`:

    .. math::

        \log \sum_z w_{z_1} p(x_1 | z_1)
        \prod_{l=2}^m P(z_l | z_{l-1})\, w_{z_l}\, p(x_l | z_l)

    with the mixture weights :math:`w` in every layer (the paper's Eq. 4, and its code)
    or in the first only (the recursion of its section 3.3, a proper likelihood). No
    labels are needed, and any given but -1 make no difference.

    The threshold comes from rows held out of other fits (see
    :class:`~skood.detectors.BaseDetector`). A row's score under a mixture that was
    fitted on it is too good, often by far, and there is no closed form that takes the
    row out: the responsibilities of all other rows depend on it. A row's score is the
    same, to the last bit, whatever stands beside it.

    Parameters
    ----------
    n_components : int or sequence of int, default=50
        Components of each layer's mixture; a sequence has one number a layer. At most
        one for every 20 in-distribution rows is fitted.
    layers : str or sequence of str, optional
        The layers to use, in the network's order; None takes all that have the
        statistic, in the order in which the features hold them.
    statistic : str, default="avg"
        The statistic to use.
    covariance_type : {"diag", "full", "tied"}, default="diag"
        Each component its own variances, its own matrix, or one matrix for all.
    prior : {"dirichlet_process"} or None, default=None
        None fits by maximum likelihood. Under a Dirichlet process (variational Bayes,
        the paper's recommendation) ``n_components`` is an upper limit: components that
        are not wanted lose their weight. The prior of a diagonal covariance is one
        row's worth of belief in the variances of all rows; that of a matrix has to be
        d rows' worth, as in scikit-learn: see Notes.
    weight_concentration_prior : float, optional
        Of the Dirichlet process: lower leaves fewer components. None is
        1 / n_components, as in scikit-learn; the paper's code had 0.1.
    weighting : {"every_layer", "first_layer"}, default="every_layer"
        Where the mixture weights count.
    assignments : {"hard", "soft"}, default="hard"
        Transitions are counted between likeliest components, as in the paper, or
        expected under the responsibilities. Each count gets 1e-8 more, so that a
        component without rows goes to all alike.
    scale_layers : bool, default=False
        Scale each feature to unit variance first. Not in the paper.
    temper : bool, default=False
        Divide each layer's log densities by its number of features, so that a wide
        layer does not outweigh the others. Not in the paper.
    reg_covar : float, default=1e-6
        The ridge: added to each feature's variance, times its variance over all rows,
        so that units are no matter. (scikit-learn adds it as it is.) A feature that is
        constant counts as one with the median of the others' variances.
    max_iter : int, default=1000
        At most so many passes of expectation maximisation a layer.
    tol : float, default=1e-3
        Stop when the lower bound rises by less, in nats a row. (Under a Dirichlet
        process scikit-learn asks this of the sum over rows.)
    n_init : int, default=1
        Fits a layer, from different starts; the one with the best bound is kept.
    random_state : int, RandomState instance or None, default=0
        Draws the k-means starts.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    mixtures_ : dict of (layer, statistic) to Mixture
        With ``weights``, ``means``, ``covariances``, ``log_joint(x)``.
    transition_matrix_ : list of ndarray of shape (K of layer l, K of layer l + 1)
        Transition probabilities from each layer to the next.
    n_iter_ : ndarray of int, shape (n_layers,)
        Passes of expectation maximisation.
    converged_ : ndarray of bool, shape (n_layers,)
        Whether the last pass changed the bound by less than ``tol``.
    lower_bound_ : ndarray of shape (n_layers,)
        The mean log-likelihood of a row; under a Dirichlet process the variational
        bound of all rows, up to a constant.
    class_labels_ : ndarray or None
        The labels in ``y``; None when fitted without.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: ``n_components`` of another length than there are layers; a
        covariance that is not positive definite; features that are constant, or too
        large to be squared.

    Warns
    -----
    ConvergenceWarning
        If a layer's mixture has not converged in ``max_iter`` passes.
    UserWarning
        If there are more components than the rows carry, and fewer are fitted.

    See Also
    --------
    Mahalanobis : One Gaussian a class, on one layer or several.
    skood.plotting.FlowDisplay : How rows flow between the components of two layers.

    Notes
    -----
    Mixtures are fitted pass by pass over chunks of rows, so that features in memory
    and in a store give the same fit. The sums of rows that one pass makes are exact
    whatever the chunks; sums that move on after each chunk (``partial_fit``) are not,
    and are not offered.

    float32 features are centred and then, for diagonal and tied covariances,
    multiplied in float32 as long as an estimate of what that costs stays below 1e-5
    nats a feature, else in float64. Full covariances and scores are always computed in
    float64.

    scikit-learn, and with it the paper's code, gives diagonal covariances the prior of
    matrices, d rows' worth of belief. On sentence vectors of 384 features (CLINC150
    and Banking77, 150 intents) that prior outweighs the rows of a component, all but
    two components die, and the AUROC against sentences out of scope is 64.1 for the
    85.8 without a prior, against Banking77 34.5 for 62.5. With one row's worth a
    feature it is 85.7 and 62.3. For matrices there is no such way out: a prior then
    takes several times d rows for each component.

    The paper takes the last layer of each block; its code leaves the first and the last
    of those out, so that a ResNet-34 is scored on ``layer1`` to ``layer3``.

    References
    ----------
    .. [1] Xu, Zhu, Li and Xu, "Joint distribution across representation space for
       out-of-distribution detection", 2021, Eq. (1)-(4), sections 3.2-3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LSGM, LayerFeatures
    >>> rng = np.random.default_rng(0)
    >>> group = np.repeat([0, 1], 100)
    >>> first, second = (rng.normal(size=(200, 3)) + 9 * group[:, None] for _ in "12")
    >>> f = LayerFeatures({"layer1": first, "layer2": second})
    >>> detector = LSGM(n_components=2, random_state=0).fit(f)
    >>> detector.predict(LayerFeatures({"layer1": first[:1], "layer2": second[:1]}))
    array([1])
    >>> crossed = LayerFeatures({"layer1": first[:1], "layer2": second[-1:]})
    >>> detector.predict(crossed)
    array([-1])
    """

    n_components: Any = field(default=50, kw_only=False)
    covariance_type: str = "diag"
    prior: str | None = None
    weight_concentration_prior: float | None = None
    weighting: str = "every_layer"
    assignments: str = "hard"
    scale_layers: bool = False
    temper: bool = False
    reg_covar: float = 1e-6
    max_iter: int = 1000
    tol: float = 1e-3
    n_init: int = 1
    random_state: Any = 0

    _kept_out_by_class = False  # labels make no difference

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "covariance_type": [StrOptions({"diag", "full", "tied"})],
        "prior": [StrOptions({"dirichlet_process"}), None],
        "weight_concentration_prior": [Interval(Real, 0, None, closed="neither"), None],
        "weighting": [StrOptions({"every_layer", "first_layer"})],
        "assignments": [StrOptions({"hard", "soft"})],
        "scale_layers": ["boolean"],
        "temper": ["boolean"],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _fit(self, training: Training) -> None:
        features = training.features
        names = features.block_names
        sizes = _sizes(self.n_components, names)
        sizes = _carried(sizes, self.n_components, len(features))
        random_state = check_random_state(self.random_state)
        self.mixtures_ = {
            name: self._mixture(features.select(*name), size, random_state)
            for name, size in zip(names, sizes, strict=True)
        }
        fitted = list(self.mixtures_.values())
        self.n_iter_ = np.array([mixture.n_iter for mixture in fitted])
        self.converged_ = np.array([mixture.converged for mixture in fitted])
        self.lower_bound_ = np.array([mixture.lower_bound for mixture in fitted])
        self._warn_of_layers(names)
        self._sequence = MixtureSequence(
            fitted,
            every_layer=self.weighting == "every_layer",
            hard=self.assignments == "hard",
            temper=self.temper,
        )
        # Kept beside the probabilities: how many rows stand behind each of them.
        self._counts = merged_statistics(self._counted, features)
        self.transition_matrix_ = self._counts.probabilities()

    def _mixture(
        self, features: LayerFeatures, size: int, random_state: np.random.RandomState
    ) -> Mixture:
        ((layer, statistic),) = features.block_names
        read = partial(self._array, layer=layer, statistic=statistic)
        try:
            rows = LayerRows.of(features, read, self.scale_layers)
            fit = MixtureFit(
                size,
                self.covariance_type,
                self.prior,
                self.weight_concentration_prior,
                self.reg_covar * rows.unit_variances,
                self.max_iter,
                self.tol,
                self.n_init,
                # one row's worth of belief in a variance; a matrix takes d
                freedom=1.0 if self.covariance_type == "diag" else None,
            )
            return fit.of(rows, random_state)
        except ValueError as error:
            raise ValueError(f"layer {layer!r} ({statistic}): {error}") from error

    def _warn_of_layers(self, names: list[tuple[str, str]]) -> None:
        left = [
            name for name, done in zip(names, self.converged_, strict=True) if not done
        ]
        if left:
            listed = ", ".join(f"{layer!r} ({statistic})" for layer, statistic in left)
            warnings.warn(
                f"the mixture of layer {listed} did not converge in max_iter="
                f"{self.max_iter} passes: raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _counted(self, chunk: LayerFeatures) -> TransitionCounts:
        counts = map(self._sequence.transition_counts, self._blocks(chunk))
        return reduce(TransitionCounts.merge, counts)

    def _blocks(self, features: LayerFeatures) -> Iterator[list[Any]]:
        """Yield the arrays of few rows at a time: each has K numbers a layer."""
        for block in features.iter_chunks(BLOCK_ROWS):
            yield self._arrays(block)

    # Scores ----------------------------------------------------------------------

    def _score(self, chunk: LayerFeatures) -> Any:
        scores = [
            self._sequence.scores(arrays, self.transition_matrix_)
            for arrays in self._blocks(chunk)
        ]
        return array_namespace(scores[0]).concat(scores)

    # Traces ----------------------------------------------------------------------

    def most_likely_path(self, X: Any) -> NDArray[np.intp]:
        """Return the path of components that each row most probably took.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of int, shape (n_samples, n_layers)
            The component in each layer; together they are the likeliest (Viterbi),
            with the weights where ``weighting`` puts them.
        """
        fitted = self._as_fitted()
        paths = [
            fitted._sequence.paths(arrays, fitted.transition_matrix_)
            for arrays in fitted._blocks(fitted._known_features(X))
        ]
        return np.concatenate(paths)

    def transition_counts(
        self, X: Any, from_layer: str, to_layer: str
    ) -> NDArray[np.intp]:
        """Return how many rows go from each component of one layer to another's.

        In-distribution rows spread over many pairs, outliers gather in few (the
        paper's Fig. 3).

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.
        from_layer, to_layer : str
            Two of the fitted layers, next to each other or not.

        Returns
        -------
        ndarray of int, shape (K of from_layer, K of to_layer)
            Rows by their likeliest component in either layer.

        Raises
        ------
        ValueError
            If a layer was not fitted.
        """
        features = self._as_fitted()._known_features(X)
        pair = [self._fitted_layer(layer) for layer in (from_layer, to_layer)]
        mixtures = [self.mixtures_[name] for name in pair]
        counts = np.zeros([len(mixture.weights) for mixture in mixtures], np.intp)
        for block in features.iter_chunks(BLOCK_ROWS):
            shares = [
                mixture.responsibilities(self._array(block, *name))
                for mixture, name in zip(mixtures, pair, strict=True)
            ]
            np.add.at(counts, tuple(to_numpy(s).argmax(axis=1) for s in shares), 1)
        return counts

    def _fitted_layer(self, layer: str) -> tuple[str, str]:
        for name in self.mixtures_:
            if name[0] == layer:
                return name
        raise ValueError(
            f"there is no fitted layer {layer!r}; there are "
            f"{[name for name, _ in self.mixtures_]}."
        )


def _sizes(n_components: Any, names: list[tuple[str, str]]) -> list[int]:
    """Return the number of components of each layer."""
    single = isinstance(n_components, Integral)
    sizes = [n_components] * len(names) if single else list(n_components)
    if len(sizes) != len(names):
        raise ValueError(
            f"n_components={sizes} has {len(sizes)} numbers, but there are "
            f"{len(names)} layers ({', '.join(layer for layer, _ in names)}): give one "
            "number a layer, or one for all."
        )
    if any(not isinstance(size, Integral) or size < 1 for size in sizes):
        raise ValueError(f"n_components={sizes}: whole numbers from 1 on are wanted.")
    return [int(size) for size in sizes]


def _carried(sizes: list[int], n_components: Any, n_rows: int) -> list[int]:
    """Return no more components a layer than the rows carry."""
    most = max(1, n_rows // ROWS_PER_COMPONENT)
    if max(sizes) > most:
        warnings.warn(
            f"n_components={n_components} is more than {n_rows} in-distribution rows "
            f"carry, at {ROWS_PER_COMPONENT} rows a component: {most} are fitted. Give "
            f"n_components={most} or less, or more rows.",
            UserWarning,
            stacklevel=6,
        )
    return [min(size, most) for size in sizes]
