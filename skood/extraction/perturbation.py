"""Inputs moved a small step along the gradient of a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from skood.extraction.borrow import evaluating
from skood.extraction.entries import first_tensor

__all__ = ["InputPerturbation"]


@dataclass(frozen=True, eq=False)
class InputPerturbation:
    r"""Move each input a small step along the gradient of a score of the network.

    With a score S, the input becomes

    .. math::

       x' = x + \text{step} \cdot \text{sign}(\nabla_x S(x)) ,

    which raises the score of in-distribution inputs by more than that of others [1]_.
    By default S is the log of the largest softmax probability at a temperature:
    ``MSP(temperature=1000)`` of the logits of x' is then ODIN.
    Any other module and score will do: an encoder and minus a distance, say [2]_.
    With ``share`` only the entries with the smallest gradients move [3]_.

    It is given to :class:`skood.LayerFeatureTransformer` in one of two ways. As
    ``preprocess``, in training and afterwards: the features are those of x'. As one of
    ``views``: ``fit_transform`` puts the features of x' beside those of x, for
    detectors that compare them. It costs a forward and a backward pass more.

    The network is left as it was: gradients of its weights are not touched, and its
    mode is put back. Copies and clones of the object share the network.

    Parameters
    ----------
    network : torch.nn.Module
        What the score is made of, mostly the network whose features are extracted.
    step : float, default=0.0014
        In the units of the network's input; negative lowers the score. The default is
        ODIN's for CIFAR-10, chosen on outliers.
    temperature : float, default=1000.0
        T of the default score, ODIN's.
    score : callable, optional
        From the module's output of shape (n_samples, ...) to scores of shape
        (n_samples,).
    share : float, default=1.0
        In (0, 1]: the share of each input's entries that move.
    std : array-like, optional
        What the channels were divided by, one number a channel: the step is then in
        the units before that, as in ODIN's code.
    preprocess : callable, optional
        Makes the network's input from rows, where this is itself the ``preprocess``.

    References
    ----------
    .. [1] Liang, Li and Srikant, "Enhancing the reliability of out-of-distribution
       image detection in neural networks", ICLR 2018.
    .. [2] Lee, Lee, Lee and Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018.
    .. [3] Regmi, "AdaSCALE: adaptive scaling for out-of-distribution detection", 2025.

    Examples
    --------
    >>> import torch
    >>> from skood import InputPerturbation, LayerFeatureTransformer
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    >>> net.append(torch.nn.Linear(8, 3))
    Sequential(...)
    >>> moved = InputPerturbation(net, step=0.1)
    >>> x = torch.rand(5, 4)
    >>> bool(((moved(x) - x).abs() < 0.1001).all())
    True
    >>> odin = LayerFeatureTransformer(net, ["logits"], preprocess=moved)
    >>> odin.fit_transform(x)
    LayerFeatures(5 rows: logits/logits 3)
    """

    network: nn.Module
    step: float = 0.0014
    temperature: float = 1000.0
    score: Callable[[Tensor], Tensor] | None = None
    share: float = 1.0
    std: ArrayLike | None = None
    preprocess: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share!r} has to be in (0, 1].")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature!r} has to be positive.")

    def __call__(self, batch: Any, rows: ArrayLike | None = None) -> Tensor:
        """Return the moved inputs.

        Parameters
        ----------
        batch : array-like or Tensor of shape (n, ...)
            The network's input, of a floating type; or what ``preprocess`` takes.
        rows : array-like of int, optional
            The numbers of the inputs, which a transformer gives to its views; they
            make no difference.

        Returns
        -------
        Tensor of shape (n, ...)

        Raises
        ------
        TypeError
            If the input is not of a floating type.
        ValueError
            If the score is not one number an input.
        """
        if rows is None and self.preprocess is not None:
            batch = self.preprocess(batch)
        inputs = torch.as_tensor(batch)
        if not inputs.is_floating_point():
            raise TypeError(
                f"InputPerturbation got inputs of type {inputs.dtype}, along which "
                "there is no gradient: give preprocess=..., which makes floats of them."
            )
        return inputs + self.step * self._direction(inputs)

    def _direction(self, inputs: Tensor) -> Tensor:
        gradient = self._gradient(inputs)
        direction = gradient.sign()
        if self.std is not None:
            std = torch.as_tensor(self.std, dtype=inputs.dtype, device=inputs.device)
            direction = direction / std.reshape(-1, *(1,) * (inputs.ndim - 2))
        if self.share < 1:
            sizes = gradient.abs().flatten(1)
            kept = max(round(self.share * sizes.shape[1]), 1)
            limit = sizes.kthvalue(kept, dim=1, keepdim=True).values
            direction = direction * (sizes <= limit).reshape(inputs.shape)
        return direction

    def _gradient(self, inputs: Tensor) -> Tensor:
        weight = next(self.network.parameters(), inputs)
        # Tensors of inference mode have no gradients, not even as copies made in it.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            evaluating(self.network),
        ):
            leaf = inputs.detach().clone().to(weight.device, weight.dtype)
            leaf.requires_grad_()
            scores = self._scores(self.network(leaf), len(inputs))
            (gradient,) = torch.autograd.grad(scores.sum(), leaf)
        return gradient.to(inputs.device, inputs.dtype)

    def _scores(self, output: Any, n_rows: int) -> Tensor:
        tensor = first_tensor(output)
        if self.score is not None:
            scores = self.score(output if tensor is None else tensor)
        elif tensor is not None and tensor.ndim == 2:
            scores = torch.log_softmax(tensor / self.temperature, dim=1).amax(dim=1)
        else:
            raise ValueError(
                "the network puts out no logits of shape (n, classes): give score=..., "
                "from its output to one number an input."
            )
        if scores.shape != (n_rows,):
            raise ValueError(
                f"the score of {n_rows} inputs has shape {tuple(scores.shape)}; wanted "
                "is one number an input, whose gradient is that input's own."
            )
        return scores

    @property
    def cache_key(self) -> str:
        """What a cache of features tells it by: its parameters and the weights."""
        from skood.store.identity.network import callable_fingerprint
        from skood.store.identity.weights import weights_digest

        functions = [callable_fingerprint(f) for f in (self.score, self.preprocess)]
        std = None if self.std is None else torch.as_tensor(self.std).tolist()
        numbers = (self.step, self.temperature, self.share, std)
        return f"{weights_digest(self.network)} {numbers} {functions}"

    def __deepcopy__(self, memo: dict[int, Any]) -> InputPerturbation:
        """Return itself: it does not change, and clones share the network."""
        return self
