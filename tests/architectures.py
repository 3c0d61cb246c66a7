"""Networks in the manner of torchvision and timm, small, with their awkward traits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """One in-place ReLU that runs twice, and a sum in place."""

    def __init__(self, width_in, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1:
            shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """The stages of torchvision's, in small."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 6))
        self.layer2 = nn.Sequential(BasicBlock(6, 10, 2), BasicBlock(10, 10))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(10, n_classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class VGG(nn.Module):
    """``features`` and ``classifier``, in-place ReLUs between linear maps."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(4)),
            *(nn.Conv2d(6, 10, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            *(nn.Linear(40, 12), nn.ReLU(True), nn.Dropout()),
            *(nn.Linear(12, 12), nn.ReLU(True), nn.Dropout()),
            nn.Linear(12, n_classes),
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class LayerNorm2d(nn.LayerNorm):
    """A layer norm of channels that come first."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Drops whole rows in training."""

    def forward(self, x):
        if not self.training:
            return x
        return x * x.new_empty((len(x), 1, 1, 1)).bernoulli_(0.5) * 2


class ConvNeXtBlock(nn.Module):
    """Channels come last inside, and first outside."""

    def __init__(self, width):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)
        self.drop_path = DropPath()

    def forward(self, x):
        inner = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        inner = self.fc2(self.act(self.fc1(inner))).permute(0, 3, 1, 2)
        return x + self.drop_path(inner)


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say."""

    def __init__(self, width):
        super().__init__()
        self.reduce = nn.Conv2d(width, 2, 1)
        self.act = nn.SiLU(inplace=True)
        self.expand = nn.Conv2d(2, width, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        squeezed = self.act(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.gate(self.expand(squeezed))


class PooledHead(nn.Module):
    """timm's ``head``: pooling, norm and linear map behind one name."""

    def __init__(self, width, n_classes):
        super().__init__()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.norm = LayerNorm2d(width)
        self.flatten = nn.Flatten()
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(width, n_classes)

    def forward(self, x, pre_logits=False):
        x = self.drop(self.flatten(self.norm(self.global_pool(x))))
        return x if pre_logits else self.fc(x)


class ConvNeXt(nn.Module):
    """timm's ``forward_features`` and ``forward_head``."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, 4), LayerNorm2d(6))
        down = nn.Sequential(LayerNorm2d(6), nn.Conv2d(6, 10, 2, 2))
        self.stages = nn.Sequential(
            ConvNeXtBlock(6), down, ConvNeXtBlock(10), SqueezeExcite(10)
        )
        self.norm_pre = nn.Identity()
        self.head = PooledHead(10, n_classes)

    def forward_features(self, x):
        return self.norm_pre(self.stages(self.stem(x)))

    def forward_head(self, x, pre_logits=False):
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


class WindowAttention(nn.Module):
    """Attention inside windows, which it gets as rows of their own."""

    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj((q @ k.transpose(1, 2)).softmax(-1) @ v)


class SwinBlock(nn.Module):
    """A map of shape (n, height, width, channels), in windows of 2 x 2."""

    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        n, high, wide, width = x.shape
        parts = self.norm1(x).reshape(n, high // 2, 2, wide // 2, 2, width)
        windows = parts.transpose(2, 3).reshape(-1, 4, width)
        attended = self.attn(windows).reshape(n, high // 2, wide // 2, 2, 2, width)
        x = x + attended.transpose(2, 3).reshape(x.shape)
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Half the height and width, twice the channels."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Channels come last in all stages."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 6, 4, 4)
        self.layers = nn.Sequential(SwinBlock(6), PatchMerging(6), SwinBlock(12))
        self.norm = nn.LayerNorm(12)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(12, n_classes)

    def forward(self, x):
        x = self.layers(self.patch_embed(x).permute(0, 2, 3, 1))
        x = self.norm(x).permute(0, 3, 1, 2)
        return self.head(self.flatten(self.avgpool(x)))


class InceptionOutputs(NamedTuple):
    logits: torch.Tensor
    aux_logits: torch.Tensor


class Inception(nn.Module):
    """A tuple of two outputs in training, one tensor in evaluation."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(True)
        )
        self.branch1 = nn.Conv2d(6, 4, 1)
        self.branch3 = nn.Conv2d(6, 6, 3, padding=1)
        self.aux = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, n_classes)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(10, n_classes)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.branch1(x), self.branch3(x)], 1)
        logits = self.fc(torch.flatten(self.avgpool(x), 1))
        return InceptionOutputs(logits, self.aux(x)) if self.training else logits


class Distilled(nn.Module):
    """Two heads, whose mean is the output, as DeiT's."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.head = nn.Linear(6, n_classes)
        self.head_dist = nn.Linear(6, n_classes)

    def forward(self, x):
        x = self.stem(x).mean((2, 3))
        return (self.head(x) + self.head_dist(x)) / 2


ARCHITECTURES = {
    kind.__name__: kind for kind in (ResNet, VGG, ConvNeXt, Swin, Inception, Distilled)
}
