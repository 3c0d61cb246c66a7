"""Small networks to test with, each with one trait that real ones have."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Convolutional(nn.Module):
    """Two blocks, in-place activations, a residual in place, and a linear head."""

    def __init__(self, n_classes: int = 5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU(inplace=True)
        self.block = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, padding=1),
        )
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, n_classes)

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        residual = self.block(x)
        residual += x
        x = nn.functional.relu_(self.conv2(nn.functional.relu_(residual)))
        return self.fc(self.dropout(self.pool(x).flatten(1)))

    def stages(self, x):
        """What each layer puts out, by hand and without any in-place operation."""
        out = {"conv1": self.conv1(x)}
        out["bn1"] = self.bn1(out["conv1"])
        out["relu1"] = out["bn1"].clamp(min=0)
        out["block.0"] = self.block[0](out["relu1"])
        out["block.1"] = out["block.0"].clamp(min=0)
        out["block"] = self.block[2](out["block.1"])
        out["conv2"] = self.conv2((out["relu1"] + out["block"]).clamp(min=0))
        out["pool"] = out["conv2"].clamp(min=0).mean((2, 3), keepdim=True)
        out["penultimate"] = out["pool"].flatten(1)
        out["logits"] = self.fc(out["penultimate"])
        return out


class SharedActivation(nn.Module):
    """One ReLU that runs as often as there are linear maps."""

    def __init__(self, depth: int = 3):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(4, 4) for _ in range(depth)])
        self.act = nn.ReLU()
        self.head = nn.Linear(4, 2)
        self.depth = depth

    def forward(self, x):
        for linear in self.maps[: self.depth]:
            x = self.act(linear(x))
        return self.head(x)


class Tokens(nn.Module):
    """Takes a dict of token ids and a mask, and gives a dict of outputs."""

    def __init__(self, width: int = 8, n_classes: int = 3):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))
        self.head = nn.Linear(width, n_classes)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        padded = attention_mask == 0
        attended, _ = self.attend(x, x, x, key_padding_mask=padded)
        hidden = x + self.feed(self.norm(x + attended))
        return {"last_hidden_state": hidden, "logits": self.head(hidden[:, 0])}


class Sequence1d(nn.Module):
    """Convolutions over time, then an activation, then a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 5, 3)
        self.act = nn.ReLU()
        self.gru = nn.GRU(5, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.act(self.conv(x))
        hidden, _ = self.gru(x.transpose(1, 2))
        return self.head(hidden[:, -1])


class Fragile(nn.Module):
    """Raises as soon as a row holds a value above 100."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        hidden = self.first(x)
        if bool((x > 100).any()):
            raise ArithmeticError("the network broke")
        return self.last(hidden)


class Hungry(nn.Module):
    """Runs out of memory for batches of more than ``limit`` rows."""

    def __init__(self, limit: int):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.limit = limit
        self.seen: list[int] = []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.limit:
            raise torch.cuda.OutOfMemoryError("out of memory, by design")
        return self.fc(x)


def convolutional() -> Convolutional:
    """A factory, as it can be given in place of a network."""
    torch.manual_seed(0)
    return Convolutional()


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them, the same at each call."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(*widths[:2])]
    for pair in pairwise(widths[1:]):
        layers += [nn.ReLU(), nn.Linear(*pair)]
    return nn.Sequential(*layers).eval()
