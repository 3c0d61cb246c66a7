"""
Texts
=====

A network that sorts questions to a bank by their intent meets intents that it was not
trained on, and sentences that are no questions to a bank at all. Its ``preprocess``
turns texts into tokens and a mask; layers are pooled under the mask, so that padding
counts for nothing.
"""

import re

import numpy as np
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from skood import AutoOOD, LayerFeatureTransformer, auroc
from skood.plotting import ScoreHistogramDisplay

# %%
# Questions from patterns, four known intents and two unknown ones. Sentences from the
# descriptions of scikit-learn's data sets are far from all of them.

THINGS = ["card", "new card", "debit card", "credit card", "account", "savings account"]
PATTERNS = {
    "where": ["where is my {}", "my {} has not arrived", "when do I get the {}"],
    "lost": ["I lost my {}", "my {} was stolen", "block my {} please, it is gone"],
    "order": ["can I order a {}", "I want to open a {}", "please give me another {}"],
    "limit": [
        "what is the limit of my {}",
        "raise the limit of this {}",
        "how much can I take from my {}",
    ],
    "?close": ["please cancel my {}", "how do I close the {}", "end my {} now"],
    "?abroad": [
        "does my {} work in Japan",
        "use my {} while I travel",
        "is the {} accepted in other countries",
    ],
}
ENDINGS = ["", "?", " today", " please", ", thank you", " as soon as possible"]
texts, intents = [], []
for intent, patterns in PATTERNS.items():
    for pattern in patterns:
        for thing in THINGS:
            for ending in ENDINGS:
                texts.append(pattern.format(thing) + ending)
                intents.append(intent)
texts, intents = np.array(texts, object), np.array(intents)
unknown = np.char.startswith(intents, "?")
prose = " ".join([load_iris().DESCR, load_wine().DESCR])
far = [s.strip() for s in re.split(r"[.\n]\s", prose) if len(s.split()) > 4]

# %%
# A tokenizer and a network
# -------------------------
#
# Any tokenizer will do; that of a Hugging Face model is given as ``partial(tokenizer,
# padding=True, return_tensors="pt")``. This one hashes pieces of three letters, so that
# no word is without a token.


def tokenized(batch: list) -> dict:
    """Return token numbers and the mask of the positions that count."""
    rows = []
    for text in batch:
        padded = f" {text.lower()} "
        pieces = [padded[i : i + 3] for i in range(len(padded) - 2)]
        rows.append([1 + sum(map(ord, p)) * 31 % 997 for p in pieces])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, numbers in zip(ids, rows, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class IntentNetwork(nn.Module):
    """Embedded pieces, two convolutions, the mean of what they find, and a head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 32, padding_idx=0)
        self.conv1 = nn.Conv1d(32, 64, 5, padding=2)
        self.conv2 = nn.Conv1d(64, 64, 5, padding=2)
        self.block = nn.Identity()  # a name for what is pooled: tokens by channels
        self.head = nn.Linear(64, 4)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[:, :, None].float()
        x = self.conv1(self.embed(input_ids).transpose(1, 2)).relu()
        x = self.block(self.conv2(x).relu().transpose(1, 2))
        return self.head((x * mask).sum(1) / mask.sum(1))


X, y = texts[~unknown], intents[~unknown]
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, train_size=0.5, random_state=0
)
X_held_out, X_test = train_test_split(X_rest, train_size=0.5, random_state=0)
torch.manual_seed(0)
network = IntentNetwork()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
classes, numbers = np.unique(y_train, return_inverse=True)
inputs, labels = tokenized(X_train), torch.from_numpy(numbers)
for _ in range(40):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(**inputs), labels).backward()
    optimizer.step()

# %%
# The alarm
# ---------

extractor = LayerFeatureTransformer(
    network, ["embed", "block", "penultimate", "logits"], preprocess=tokenized
)
train = extractor.fit_transform(X_train)
held_out = extractor.transform(X_held_out)
auto = AutoOOD().fit(train, numbers, threshold_data=held_out)

known = extractor.transform(X_test)
for name, rows in {
    "known intents": known,
    "unknown intents": extractor.transform(texts[unknown]),
    "other sentences": extractor.transform(far),
}.items():
    y_true = np.repeat([0, -1], [len(known), len(rows)])
    scores = np.concatenate([auto.score_samples(known), auto.score_samples(rows)])
    flagged = np.mean(auto.predict(rows) == -1)
    area = "" if rows is known else f", AUROC {auroc(y_true, scores):.3f}"
    print(f"{name}: {flagged:.1%} flagged{area}")

# %%

near = extractor.transform(texts[unknown])
display = ScoreHistogramDisplay.from_predictions(
    np.repeat([0, -1], [len(known), len(near)]),
    np.concatenate([auto.score_samples(known), auto.score_samples(near)]),
    threshold=auto.offset_,
    name="unknown intents",
)
