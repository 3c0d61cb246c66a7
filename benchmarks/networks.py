"""The networks whose published weights the detection benchmark runs on.

Modules are named as in the weights' files. Every activation is a module of its own, so
that its output can be asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SigmoidGELU(nn.Module):
    """x sigmoid(1.702 x) (Hendrycks and Gimpel, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return x * torch.sigmoid(1.702 * x)


class SmallConvNet(nn.Module):
    """Two convolutions and two linear maps for grey images of 28 x 28."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.act1 = SigmoidGELU()
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.act2 = SigmoidGELU()
        self.fc1 = nn.Linear(320, 50)
        self.act3 = SigmoidGELU()
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images of shape (n, 1, 28, 28)."""
        x = self.act1(F.max_pool2d(self.conv1(x), 2))
        x = self.act2(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(self.act3(self.fc1(x.flatten(1))))


class DenseLayer(nn.Module):
    """A bottleneck and a 3 x 3 convolution, whose output joins the input."""

    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(n_in, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with `growth` more channels."""
        new = self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(x))))))
        return torch.cat([x, new], 1)


class DenseBlock(nn.Module):
    """Dense layers, each of which sees what all before it made."""

    def __init__(self, n_in: int, growth: int, n_layers: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(DenseLayer(n_in + i * growth, growth) for i in range(n_layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the channels of all layers."""
        return self.layer(x)


class Transition(nn.Module):
    """Half the channels, half the side."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(n_in, n_in // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled maps."""
        return F.avg_pool2d(self.conv1(self.relu(self.bn1(x))), 2)


class DenseNetBC(nn.Module):
    """DenseNet-BC with 100 layers, growth 12 (Huang et al., CVPR 2017)."""

    def __init__(self, n_classes: int = 10, growth: int = 12, n_layers: int = 16):
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.block1 = DenseBlock(width, growth, n_layers)
        width += growth * n_layers
        self.trans1 = Transition(width)
        self.block2 = DenseBlock(width // 2, growth, n_layers)
        width = width // 2 + growth * n_layers
        self.trans2 = Transition(width)
        self.block3 = DenseBlock(width // 2, growth, n_layers)
        width = width // 2 + growth * n_layers
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images of shape (n, 3, 32, 32)."""
        x = self.trans2(self.block2(self.trans1(self.block1(self.conv1(x)))))
        return self.fc(self.relu(self.bn1(self.block3(x))).mean((2, 3)))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut without weights."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.stride = n_out // n_in
        self.conv1 = nn.Conv2d(n_in, n_out, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, after its ReLU."""
        new = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            missing = (new.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing, missing))
        return F.relu(new + x)


class ResNet20(nn.Module):
    """ResNet of 20 layers for CIFAR, shortcut A (He et al., CVPR 2016, section 4.2)."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16)
        self.layer2 = _stage(16, 32)
        self.layer3 = _stage(32, 64)
        self.linear = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images of shape (n, 3, 32, 32)."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def _stage(n_in: int, n_out: int) -> nn.Sequential:
    blocks = [ResidualBlock(n_in, n_out), *(ResidualBlock(n_out, n_out) for _ in "12")]
    return nn.Sequential(*blocks)


@dataclass(frozen=True)
class Published:
    """A published network: its weights, its inputs, and what is read from it.

    Parameters
    ----------
    weights : str
        File in the data folder.
    make : callable
        Returns the network with random weights.
    inliers : str
        The data set it was trained on.
    mean, std : tuple of float
        What its inputs were normalised with, per channel.
    blocks : tuple of str
        Ends of the stages, stem first: the layers of LSGM and of Mahalanobis.
    lsgm_layers : tuple of str
        Those of them that LSGM's reference code scores.
    activations : tuple of str
        Layers after an activation, for NAP.
    norm_layers : tuple of str
        Maps that NormRatio chooses from.
    """

    weights: str
    make: Callable[[], nn.Module]
    inliers: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blocks: tuple[str, ...]
    lsgm_layers: tuple[str, ...]
    activations: tuple[str, ...]
    norm_layers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that some detector reads."""
        named = dict.fromkeys([*self.blocks, *self.activations, *self.norm_layers])
        return (*named, "penultimate", "logits")

    def loaded(self, folder: Path) -> nn.Module:
        """Return the network with its published weights, in evaluation mode."""
        file = folder / "weights" / self.weights
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        state = saved.get("state_dict", saved)
        network = self.make()
        network.load_state_dict(
            {name.removeprefix("module."): value for name, value in state.items()}
        )
        return network.eval()

    def preprocess(self, batch: Any) -> Tensor:
        """Return the network's input: images are normalised, noise is left as it is."""
        inputs = torch.as_tensor(batch)
        if inputs.dtype != torch.uint8:
            return inputs
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (inputs.float() / 255 - mean) / std


def _densenet(
    weights: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Published:
    activated = ("trans1.relu", "trans2.relu", "relu")
    return Published(
        weights,
        DenseNetBC,
        "cifar10",
        mean,
        std,
        blocks=("conv1", "trans1", "trans2", "relu"),
        lsgm_layers=("trans1", "trans2"),
        activations=activated,
        norm_layers=activated,
    )


_RESIDUAL_BLOCKS = tuple(f"layer{stage}.{i}" for stage in (1, 2, 3) for i in range(3))

NETWORKS = {
    "mnist_convnet": Published(
        "oe_mnist_baseline.pt",
        SmallConvNet,
        "mnist",
        mean=(0.0,),
        std=(1.0,),
        blocks=("act1", "act2", "act3"),
        lsgm_layers=("act1", "act2"),
        activations=("act1", "act2", "act3"),
        norm_layers=("act1", "act2"),
    ),
    "resnet20": Published(
        "akamaster_resnet20-12fca82f.th",
        ResNet20,
        "cifar10",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        blocks=("relu", "layer1", "layer2", "layer3"),
        lsgm_layers=("layer1", "layer2"),
        activations=_RESIDUAL_BLOCKS,
        norm_layers=_RESIDUAL_BLOCKS,
    ),
    "densenet_mahalanobis": _densenet(
        "maha_densenet_cifar10.pth",
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    "densenet_dice": _densenet(
        "dice_densenet_cifar10.pth.tar",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
}
