"""The lines that the README and the home page give a reader for their own network."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import BasicBlock, ResNet
from torch import nn

REPOSITORY = Path(__file__).parents[1]
README = re.findall(
    r"^```python\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.M | re.S
)
OWN_NETWORK, TEXTS = (block for block in README if ">>>" not in block)
HOME = dict(
    re.findall(
        r"^   \.\. tab-item:: (\w+).*?\n\n      \.\. code-block:: python\n\n(.*?)"
        r"(?=^   \.\.|^\S)",
        (REPOSITORY / "docs" / "index.rst").read_text(),
        re.M | re.S,
    )
)


class Stages(ResNet):
    """Three stages, named as in torchvision."""

    def __init__(self):
        super().__init__(n_classes=3)
        self.layer3 = nn.Sequential(BasicBlock(10, 12, 2))
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def images():
    """Return what a reader has: a network, its rows, others, and new ones."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3, 32, 32)).astype("float32")
    return {
        "network": Stages(),
        "X_train": X[:90],
        "y_train": np.arange(90) % 3,
        "X_held_out": X[90:140],
        "X_new": X[140:],
    }


def texts():
    """Return the same for a network of transformers, all of it made here."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "where", "is", "my", "card", "and", "the", "money"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
    )
    rng = np.random.default_rng(0)
    X = [" ".join(rng.choice(words[2:], n)) for n in rng.integers(3, 9, 150)]
    return {
        "network": transformers.BertForSequenceClassification(config),
        "tokenizer": transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="[PAD]", model_max_length=64
        ),
        "X_train": X[:90],
        "y_train": np.arange(90) % 3,
        "X_held_out": X[90:140],
        "X_new": X[140:],
    }


def table():
    """Return rows of columns with units of their own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(350, 6)) * [1, 10, 100, 1, 1, 1]
    return {
        "X_train": X[:200],
        "y_train": np.arange(200) % 2,
        "X_held_out": X[200:300],
        "X_new": X[300:],
    }


@pytest.mark.parametrize(
    ("code", "reader"),
    [
        pytest.param(OWN_NETWORK, images, id="README, images"),
        pytest.param(HOME["Images"], images, id="home, images"),
        pytest.param(HOME["Texts"], texts, id="home, texts"),
        pytest.param(HOME["Embeddings"], table, id="home, table"),
    ],
)
@pytest.mark.filterwarnings("ignore:the covariance:UserWarning")
def test_they_run(code, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = reader()
    exec(textwrap.dedent(code), names)
    assert (tmp_path / "alarm.joblib").is_file()
    flags = names["alarm"].predict(names["X_new"])
    assert len(flags) == len(names["X_new"])
    assert set(flags) <= {-1, 1}


def test_the_lines_for_texts_change_the_extraction_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = texts()
    start, rest = OWN_NETWORK.split("features = ", 1)
    exec(start + TEXTS + rest[rest.index("train, held_out") :], names)
    assert set(names["alarm"].predict(names["X_new"])) <= {-1, 1}
