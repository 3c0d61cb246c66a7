"""The network's final linear map, carried along so that no network is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.numerics.arrays import as_array


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The linear map from penultimate features to logits.

    Parameters
    ----------
    weight : array or tensor of shape (n_classes, n_features)
        Rows are the classes' weight vectors. Kept as an ndarray.
    bias : array or tensor of shape (n_classes,), or None
        The classes' offsets. Kept as an ndarray; None, as of a map without, is zeros.
    layer : str, default="penultimate"
        The layer of a :class:`~skood.features.LayerFeatures` that is the input of
        the map.

    Raises
    ------
    ValueError
        If the shapes do not belong together, or an entry is NaN or infinite: every
        logit would be, too.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.features import LinearHead
    >>> head = LinearHead(np.eye(2), np.array([0.0, 1.0]))
    >>> head.logits(np.array([[3.0, 4.0]]))
    array([[3., 5.]])
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating]
    layer: str = "penultimate"

    def __post_init__(self) -> None:
        weight = as_array(self.weight, "weight")  # those of a torch module are tensors
        given: Any = self.bias
        none = np.zeros(weight.shape[:1], weight.dtype)
        bias = none if given is None else as_array(given, "bias")
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"the head's weight has shape {weight.shape} and its bias "
                f"{bias.shape}: the weight is (n_classes, n_features), and the bias "
                "(n_classes,)."
            )
        for name, array in (("weight", weight), ("bias", bias)):
            _check_finite(array, name)
            object.__setattr__(self, name, array)

    def logits(self, features: ArrayLike) -> NDArray[np.floating]:
        """Return the logits of penultimate features.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features)
            Rows of the layer named ``layer``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return as_array(features, "features") @ self.weight.T + self.bias

    @classmethod
    def from_samples(
        cls, features: ArrayLike, logits: ArrayLike, layer: str = "penultimate"
    ) -> LinearHead:
        """Recover the map from cached penultimate features and logits.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features)
            Penultimate features, with n greater than n_features.
        logits : array-like of shape (n_samples, n_classes)
            The network's output for the same inputs.
        layer : str, default="penultimate"
            The name that the features have in a ``LayerFeatures``.

        Returns
        -------
        LinearHead
            The least-squares solution, unique when the features have full rank.

        Raises
        ------
        ValueError
            If there are fewer rows than unknowns of one class, or if the logits are
            not a linear function of the features.

        Examples
        --------
        >>> import numpy as np
        >>> from skood.features import LinearHead
        >>> h = np.random.default_rng(0).normal(size=(20, 3))
        >>> head = LinearHead.from_samples(h, h @ np.ones((3, 2)) + 5)
        >>> np.allclose(head.weight, 1), np.allclose(head.bias, 5)
        (True, True)
        """
        h = as_array(features, "features", np.float64)
        z = as_array(logits, "logits", np.float64)
        if len(h) != len(z) or len(h) <= h.shape[1]:
            raise ValueError(
                f"features have shape {h.shape} and logits {z.shape}: the head is "
                f"found from the same rows of both, more than {h.shape[1]} of them."
            )
        design = np.column_stack([h, np.ones(len(h))])
        solution = np.linalg.lstsq(design, z, rcond=None)[0]
        error = np.abs(design @ solution - z).max()
        if error > 1e-3 * max(np.abs(z).max(), 1e-12):
            raise ValueError(
                f"logits are not a linear function of the features (largest error "
                f"{error:.3g}): layer {layer!r} is not the input of the last "
                "linear map."
            )
        return cls(solution[:-1].T.copy(), solution[-1].copy(), layer)


def _check_finite(array: NDArray[np.floating], name: str) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    place = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
    raise ValueError(
        f"the head's {name} has {array[place]} in place {place}, and every logit of "
        "that class would be no number: give finite weights (a network whose training "
        "diverged has none)."
    )
