"""What each detector promises under changes that some methods notice and others not.

A claim is about scores after such a change to the rows that are fitted on and to those
that are scored: ``SAME``, or what they have become; None where the method's formula
promises nothing, with the reason beside it.
"""

from __future__ import annotations

import numpy as np

SAME = "same"


def times(power):
    """Scores in other units: multiplied by a power of the factor."""
    return lambda before, factor, after: (before * factor**power, after)


def plus(before, amount, after):
    """Scores that are larger by what the logits are."""
    return before + amount, after


def moved(before, amount, after):
    """Scores that differ by one number, whatever it is: only ranks say something."""
    return before - before.mean(), after - after.mean()


SCALE = {
    "NCI": times(-1),  # a norm of the weights, whose unit is one over the features'
    "NCI alpha": None,  # and the features' own norm beside it
    "Residual": times(1),  # a distance
    "GradNorm": times(1),  # a gradient by the weights: the features themselves
    "SHE": times(2),  # an inner product of two rows
    "PNML": None,  # z / |h| + b: the bias has no length to be divided by
    "DML alpha": None,  # a cosine plus a length
    "KNN": None,  # layers of angles and layers of distances are added ("auto")
    "KNN normalize": times(1),  # a distance
    "LSGM": moved,  # a log density changes by the logarithm of the volume
    "GaussianMixtureDetector": moved,
    "FeatureNorm": times(1),  # a length
    "PyODDetector": times(1),  # a distance to a neighbour
}
"""All hidden layers times a power of two, the head's weights over it."""

_ABOUT_ZERO = None  # angles, lengths or signs are taken from zero

SHIFT = {
    "NCI alpha": None,  # a sum of |h|
    "ViM": None,  # the length of a residual from -pinv(W) b
    "Residual": None,
    "NNGuide": _ABOUT_ZERO,
    "GradNorm": _ABOUT_ZERO,
    "SHE": _ABOUT_ZERO,
    "CARef": _ABOUT_ZERO,
    "CADRef": _ABOUT_ZERO,
    "KPCA": _ABOUT_ZERO,
    "NuSA": _ABOUT_ZERO,
    "PNML": _ABOUT_ZERO,
    "RelationGraph": _ABOUT_ZERO,
    "DML": _ABOUT_ZERO,
    "ActSub": _ABOUT_ZERO,
    "NAC": _ABOUT_ZERO,
    "WeiPer": _ABOUT_ZERO,
    "SCALE": _ABOUT_ZERO,  # shares of a sum
    "ASH": _ABOUT_ZERO,
    "VRA": _ABOUT_ZERO,  # what is low becomes zero
    "VRA low": SAME,  # what is low becomes the limit
    "LINe": _ABOUT_ZERO,
    "OptFS": _ABOUT_ZERO,
    "Mahalanobis normalize": _ABOUT_ZERO,
    "KNN": _ABOUT_ZERO,
    "KNN normalize": SAME,
    "NAP": None,  # percentiles of the positive part
    "FeatureNorm": moved,
    "Gram": None,  # its statistic is of products
    "ActivationPrior": _ABOUT_ZERO,
    "ConceptMatching": _ABOUT_ZERO,
}
"""The same number added to all entries of a hidden layer, the head's bias made up."""

UNITS = {
    "MSP": SAME,
    "MaxLogit": SAME,
    "Energy": SAME,
    "GEN": SAME,
    "Entropy": SAME,
    "TemperatureScaledMSP": SAME,
    "KLMatching": SAME,
    "OpenMax": SAME,
    "DOCTOR": SAME,
    "JointEnergy": SAME,
    "NECO": SAME,  # columns are standardised
    "BATS": SAME,  # each column by itself, and then the logits
    "DICE": SAME,  # a weight times its column's mean
    "LINe": None,  # one limit for all columns
    "Mahalanobis": SAME,  # its defining property
    "Mahalanobis normalize": None,
    "GaussianMixtureDetector": None,  # shrunk towards equal variances
    "LSGM": None,  # variances are kept from zero by a share of their mean
    "NAP": None,  # the units of a row are compared with one another
    "LayerEnergy": SAME,
    "ActivationPrior": None,
}
"""Columns of a hidden layer in units of their own; where not listed, nothing."""

LOGITS_PLUS = {
    "MaxLogit": plus,
    "Energy": plus,
    "JointEnergy": None,  # an independent logit for each label
    "OpenMax": None,  # the unknown class has no logit of its own to be moved
    "ViM": None,  # a virtual logit that is not moved, and -pinv(W) b that is
    "Residual": None,
    "NNGuide": None,  # energies multiply the likeness
    "CADRef": None,  # divides by a score of the logits
    "CADRef msp": SAME,
    "CADRef gen": SAME,
    "ActSub": None,
    "SCALE square": None,
    "ReAct": plus,
    "SCALE": plus,
    "ASH": plus,
    "VRA": plus,
    "RAS": plus,
    "DICE": plus,
    "BATS": plus,
    "LINe": plus,
    "OptFS": plus,
    "NECO max_logit": None,  # the share is weighed by a logit
}
"""The same number added to all logits, by the bias where there is a head."""

TWICE = {
    "TemperatureScaledMSP": None,  # a prior of as many rows as there are classes
    "OpenMax": None,  # the n_tail largest distances are of half as many rows
    "NNGuide": None,  # the k nearest
    "NNGuide max_rows": None,
    "ActSub": None,
    "PNML": None,  # twice the rows say twice as much
    "RelationGraph max_rows": None,
    "OptFS": None,  # quantiles between two rows
    "KNN": None,
    "KNN normalize": None,
    "LSGM": None,  # starts from rows drawn by their number
    "GaussianMixtureDetector": None,  # shrunk by the number of rows
    "GaussianMixtureDetector shrinkage": SAME,
    "KPCA cosine_rbf": None,  # gamma from a sample of rows
    "Gram": None,  # refuses: no row leaves the range of the others
    "PyODDetector": None,
}
"""Every training row twice."""

SHUFFLED = {
    "NNGuide max_rows": None,  # which rows are kept is drawn by their number
    "RelationGraph max_rows": None,
    "LSGM": None,  # starts from rows drawn by their number
}
"""Training rows in another order."""


DENORMAL = {
    "NCI": None,  # which class is predicted where logits tie but for such a number
    "SHE": None,
    "NAC": None,  # a unit is active or not
    "ASH": None,
    "RAS": None,  # which of the units is larger
    "NAP": None,
    "ActivationPrior": None,  # a peak over its mean
}
"""Entries so small that they are zeros to all sums."""


def close(one, other, tolerance):
    """Raise unless scores agree, relative to how far they lie apart from each other."""
    span = max(np.ptp(one), np.abs(one).max() * 1e-3, 1e-300)
    np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance * span)
