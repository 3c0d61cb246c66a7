"""Image embeddings against the embeddings of texts that name the classes."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags

from skood._sklearn_compat import Interval
from skood.detectors.base import ARRAY, BaseDetector
from skood.detectors.declared import field
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.numerics.arrays import as_array
from skood.numerics.device import array_namespace, like
from skood.numerics.graph import row_slices
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.rows import (
    cache_slices,
    exponentials,
    in_float64,
    lengths,
    less_best,
    nonzero,
    row_sums,
    unit_rows,
)
from skood.numerics.seeds import RandomStateLike, stream_seed

__all__ = ["ConceptMatching"]

BLOCK_ELEMENTS = 1 << 20
"""Numbers of the images, or of their products with the texts, at a time."""


class ConceptMatching(BaseDetector):
    r"""Zero-shot: image embeddings against texts that name the classes.

    Of a network such as CLIP, with the embeddings v of images and :math:`t_k` of texts,
    all of length 1, the score is maximum concept matching [1]_,

    .. math::

       s = \max_k \frac{e^{v \cdot t_k / \tau}}{\sum_j e^{v \cdot t_j / \tau}} .

    With ``negatives``, embeddings of words far from all classes, it is how much of the
    softmax falls on classes [2]_: the negatives are drawn into ``groups`` of one size,
    and the score is the mean over the groups N of

    .. math::

       s_N = \frac{\sum_k e^{v \cdot t_k / \tau}}
             {\sum_k e^{v \cdot t_k / \tau} + \sum_{t \in N} e^{v \cdot t / \tau}} .

    Networks that were trained with a sigmoid, as SigLIP, have no softmax to match.
    Products are in float32 where both embeddings are and the temperature is 1 or more.
    Nothing is learned from images: the threshold comes from the scores of the rows
    given to ``fit``.

    Parameters
    ----------
    text_embeddings : array-like of shape (n_classes, n_features), optional
        One row a class, of any length; None takes the weights of the head that the
        features carry, which are just these in a zero-shot classifier.
    layers : str, optional
        The layer that is the image embedding; None takes the head's, or the only one.
    negatives : array-like of shape (n_negatives, n_features), optional
        Embeddings of negative words.
    temperature : float, optional
        :math:`\tau`; None takes the authors', 1 without negatives and 0.01, CLIP's own,
        with them.
    groups : int, default=1
        Of negatives; those left over are not used, as in the authors' code.
    random_state : int, RandomState instance or None, default=0
        Draws the groups.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    text_embeddings_ : ndarray of shape (n_classes, n_features)
        Of length 1; in float32 where products are.
    negatives_ : ndarray of shape (groups, n_in_group, n_features) or None
        Of length 1.
    layer_ : str
        The layer that is read.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no text embeddings, or they are of another width than the images',
        or there are fewer negatives than groups.

    References
    ----------
    .. [1] Ming, Cai, Gu, Sun, Li and Li, "Delving into out-of-distribution detection
       with vision-language representations", NeurIPS 2022.
    .. [2] Jiang et al., "Negative label guided OOD detection with pretrained
       vision-language models", ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import ConceptMatching
    >>> rng = np.random.default_rng(0)
    >>> texts = np.eye(3, 8)
    >>> images = texts[np.arange(90) % 3] + 0.1 * rng.normal(size=(90, 8))
    >>> detector = ConceptMatching(texts, temperature=0.1).fit(images)
    >>> detector.predict([[1, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
    array([ 1, -1])
    """

    text_embeddings: ArrayLike | None = field(default=None, kw_only=False)
    layers: str | None = None
    negatives: ArrayLike | None = None
    temperature: float | None = None
    groups: int = 1
    random_state: RandomStateLike = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "text_embeddings": ["array-like", None],
        "layers": [str, None],
        "negatives": ["array-like", None],
        "temperature": [Interval(Real, 0, None, closed="neither"), None],
        "groups": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _unbiased = "nothing is learned from the rows"

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        layer = getattr(self, "layer_", None) or self._image_layer(features)
        return features.select_blocks([(layer, "avg")])

    def _image_layer(self, features: LayerFeatures) -> str:
        if self.layers is not None:
            return self.layers
        if self.text_embeddings is None and features.head is not None:
            return features.head.layer
        names = features.select(statistic="avg").layers
        if len(names) > 1:
            raise ValueError(
                f"layers=None, and X has the layers {names}: say by layers which is "
                "the image embedding."
            )
        return names[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.text_embeddings is not None
        return tags

    def _array_key(self) -> tuple[str, str]:
        return (self.layers or ARRAY, "avg")

    def _fit(self, training: Training) -> None:
        ((self.layer_, _),) = training.features.block_names
        width = training.features.shape[1]
        texts = self._texts(training)
        self.text_embeddings_ = _unit(texts, "text_embeddings", width).astype(
            np.float32 if self._is_narrow(texts) else np.float64, copy=False
        )
        self.negatives_ = None
        if self.negatives is not None:
            self.negatives_ = self._grouped(_unit(self.negatives, "negatives", width))

    def _texts(self, training: Training) -> ArrayLike:
        if self.text_embeddings is not None:
            return self.text_embeddings
        if training.features.head is None:
            raise ValueError(
                "text_embeddings=None takes the weights of a head, and X carries none: "
                "give text_embeddings, or LayerFeatures with head=LinearHead(...)."
            )
        return training.features.head.weight

    def _is_narrow(self, texts: ArrayLike) -> bool:
        """Return whether products in float32 will do, as the texts are given.

        A temperature below 1 would magnify what they round.
        """
        given = getattr(texts, "dtype", None)
        return self._temperature >= 1 and given in (np.float16, np.float32)

    def _grouped(self, negatives: NDArray[np.float64]) -> NDArray[np.float64]:
        size = len(negatives) // self.groups
        if size == 0:
            raise ValueError(
                f"groups={self.groups}, and there are {len(negatives)} negatives: give "
                "one a group at least."
            )
        rng = np.random.default_rng(stream_seed(self.random_state))
        drawn = negatives[rng.permutation(len(negatives))[: size * self.groups]]
        return drawn.reshape(self.groups, size, -1)

    def _score(self, chunk: LayerFeatures) -> Any:
        (images,) = self._arrays(chunk)
        if self.text_embeddings_.dtype == np.float64:
            images = in_float64(images)
        step = BLOCK_ELEMENTS // max(images.shape[1], len(self.text_embeddings_))
        blocks = (images[rows] for rows in row_slices(images, max(1, step)))
        scores = [score for block in blocks for score in self._matched(block)]
        return array_namespace(images).concat(scores)

    def _matched(self, images: Any) -> Iterator[Any]:
        """Yield the scores of some rows after the other."""
        near = images @ like(self.text_embeddings_, images).T
        slices = cache_slices(images, images.shape[1])
        sizes = [lengths(in_float64(images[rows])) for rows in slices]
        size = nonzero(array_namespace(images).concat(sizes))[:, None]
        size *= self._temperature
        for rows in cache_slices(near, near.shape[1]):
            known = in_float64(near[rows]) / size[rows]
            if self.negatives_ is None:
                yield 1 / row_sums(exponentials(less_best(known)[1]))
            else:
                some = in_float64(images[rows]) / size[rows]
                yield self._share(some, log_sum_exp(known))

    def _share(self, images: Any, known: Any) -> Any:
        """Return how much of the softmax falls on classes, in the mean of groups."""
        xp, total = array_namespace(images), 0.0
        for group in self.negatives_:
            far = log_sum_exp(images @ like(group, images).T)
            total = total + 1 / (1 + xp.exp(far - known))
        return total / self.groups

    @property
    def _temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.negatives is None else 0.01


def _unit(rows: ArrayLike, name: str, width: int) -> NDArray[np.float64]:
    """Return embeddings of length 1."""
    array = np.atleast_2d(as_array(rows, name, np.float64))
    if array.shape[1] != width or not np.isfinite(array).all():
        raise ValueError(
            f"{name} has shape {array.shape}, and the image embeddings have {width} "
            "columns: give finite texts' embeddings of the same network."
        )
    return np.asarray(unit_rows(array))
