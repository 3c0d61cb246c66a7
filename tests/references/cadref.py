"""CARef and CADRef, entry by entry."""

from __future__ import annotations

import numpy as np

from references.head_parts import (
    energy,
    hidden,
    logits,
    mean,
    parameters_of,
    rows_by,
    softmax,
)


def predicted(h, weight, bias):
    return int(np.argmax(logits(h, weight, bias)))


def class_means(known, weight, bias):
    rows = hidden(known)
    classes = [predicted(h, weight, bias) for h in rows]
    return {k: mean(members) for k, members in rows_by(rows, classes).items()}


def caref(known, y, new):
    weight, bias = parameters_of(new)
    means = class_means(known, weight, bias)
    return np.array(
        [
            -sum(abs(h - means[predicted(h, weight, bias)])) / sum(abs(h))
            for h in hidden(new)
        ]
    )


def gen(z):
    m = max(len(z) // 10, 10)
    return 1 / sum((p * (1 - p)) ** 0.1 for p in sorted(softmax(z))[-m:])


LOGIT_SCORES = {
    "energy": energy,
    "max_logit": max,
    "msp": lambda z: max(softmax(z)),
    "gen": gen,
}


def cadref(known, y, new, score="energy"):
    weight, bias = parameters_of(new)
    of = LOGIT_SCORES[score]
    means = class_means(known, weight, bias)
    level = mean([[of(logits(h, weight, bias))] for h in hidden(known)])[0]
    found = []
    for h in hidden(new):
        c = predicted(h, weight, bias)
        agreeing = against = 0.0
        for x, m, w in zip(h, means[c], weight[c], strict=True):
            if (x - m) * w > 0:
                agreeing += abs(x - m)
            elif (x - m) * w < 0:
                against += abs(x - m)
        own = max(of(logits(h, weight, bias)), level / 100)
        found.append(-(agreeing / own + against / level) / sum(abs(h)))
    return np.array(found)


REFERENCES = {"CARef": caref, "CADRef": cadref}
