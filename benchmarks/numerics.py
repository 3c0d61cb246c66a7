"""How far distances and densities are from the same formula in many digits.

    python benchmarks/numerics.py [--out FILE]

Rows are made, rounded to a type, and taken as they are then: the error is that of the
fit and of the scores, the largest relative one over new rows. Covariances of a given
condition have deviations that fall geometrically, in turned axes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pandas as pd
from harness import relative_error
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance

from skood import LSGM, Mahalanobis

DIGITS = 60
ROWS, NEW, CLASSES = 1000, 60, 4
Rows = NDArray[Any]


def rows_of_condition(condition: float, offset: float, d: int = 24) -> Rows:
    """Return rows whose covariance has a condition, far from zero by ``offset``."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    deviations = np.geomspace(1, condition**-0.5, d)
    return rng.normal(size=(ROWS + NEW, d)) * deviations @ turn + offset


def cases() -> Iterator[tuple[str, Rows, int]]:
    """Yield each case's name, rows (the last are new) and number of classes."""
    yield "condition 1e6", rows_of_condition(1e6, 0), CLASSES
    yield "condition 1e12", rows_of_condition(1e12, 0), CLASSES
    yield "condition 1e6, offset 1e6", rows_of_condition(1e6, 1e6), CLASSES
    few = np.random.default_rng(0).normal(size=(200 + NEW, 3000))
    yield "3,000 features, 200 rows", few, CLASSES


def exact(values: Rows) -> Rows:
    """Return the numbers with many digits."""
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(values, np.float64))


def exact_moments(X: Rows, y: Rows) -> tuple[list[Rows], Rows]:
    """Return class means and within-class covariance."""
    groups = [exact(X[y == c]) for c in np.unique(y)]
    means = [rows.sum(axis=0) / len(rows) for rows in groups]
    centred = np.concatenate([g - m for g, m in zip(groups, means, strict=True)])
    return means, centred.T @ centred / mpmath.mpf(len(X))


def exact_distances(X: Rows, y: Rows, new: Rows, reg_covar: float) -> Rows:
    """Return squared distances to the nearest mean, with a ridge by column."""
    means, covariance = exact_moments(X, y)
    covariance = covariance + np.diag(np.diag(covariance)) * mpmath.mpf(reg_covar)
    precision = np.array(mpmath.inverse(mpmath.matrix(covariance.tolist())).tolist())
    return np.array(
        [float(min((x - m) @ precision @ (x - m) for m in means)) for x in exact(new)]
    )


def exact_log_densities(X: Rows, new: Rows, reg_covar: float) -> Rows:
    """Return the log densities under one Gaussian, with a ridge by column."""
    (mean,), covariance = exact_moments(X, np.zeros(len(X)))
    added = np.diag(covariance) * len(X) / (len(X) - 1) * mpmath.mpf(reg_covar)
    matrix = mpmath.matrix((covariance + np.diag(added)).tolist())
    precision = np.array(mpmath.inverse(matrix).tolist())
    level = mpmath.log(mpmath.det(matrix)) + len(mean) * mpmath.log(2 * mpmath.pi)
    u = exact(new) - mean
    return np.array([float(-(x @ precision @ x + level) / 2) for x in u])


def long_distances(X: Rows, y: Rows, new: Rows, reg_covar: float) -> Rows:
    """Return the distances where rows are few, from their products, in long doubles.

    With U the rows less their class means over the features' deviations, the inverse of
    U^T U / n + r I is (I - U^T (U U^T + n r I)^-1 U) / r.
    """
    X, new = X.astype(np.longdouble), new.astype(np.longdouble)
    means = np.array([X[y == c].mean(axis=0) for c in np.unique(y)])
    U = X - means[y]
    unit = np.sqrt((U * U).mean(axis=0))
    U /= unit
    lower = long_cholesky(U @ U.T + len(X) * np.longdouble(reg_covar) * np.eye(len(X)))
    found = []
    for mean in means:
        v = (new - mean) / unit
        inside = long_solve(lower, U @ v.T)
        found.append(((v * v).sum(axis=1) - (inside * inside).sum(axis=0)) / reg_covar)
    return np.min(found, axis=0).astype(np.float64)


def long_cholesky(matrix: Rows) -> Rows:
    """Return the lower triangle of a positive matrix of long doubles."""
    lower = np.zeros_like(matrix)
    for j in range(len(matrix)):
        column = matrix[j:, j] - lower[j:, :j] @ lower[j, :j]
        lower[j:, j] = column / np.sqrt(column[0])
    return lower


def long_solve(lower: Rows, right: Rows) -> Rows:
    """Return lower^-1 right."""
    solved = np.zeros_like(right)
    for j in range(len(lower)):
        solved[j] = (right[j] - lower[j, :j] @ solved[:j]) / lower[j, j]
    return solved


def scikit_learn_distances(X: Rows, y: Rows, new: Rows) -> Rows:
    """Return the distances by EmpiricalCovariance, in the type of the rows."""
    means = np.array([X[y == c].mean(axis=0) for c in np.unique(y)])
    model = EmpiricalCovariance(assume_centered=True).fit(X - means[y])
    differences = new[:, None] - means
    distances = np.einsum("ncd,de,nce->nc", differences, model.precision_, differences)
    return np.asarray(distances.min(axis=1))


def errors(rows: Rows, n_classes: int) -> dict[str, float]:
    """Return the relative errors on the rows as they are."""
    X, new = rows[:-NEW], rows[-NEW:]
    y = np.arange(len(X)) % n_classes
    reg_covar = Mahalanobis().reg_covar
    found = -Mahalanobis().fit(X, y).score_samples(new)
    few = len(X) < X.shape[1]
    distances: Callable[..., Rows] = long_distances if few else exact_distances
    result = {"Mahalanobis": relative_error(found, distances(X, y, new, reg_covar))}
    if few:
        return result
    plain = exact_distances(X, y, new, 0.0)
    result["Mahalanobis, its ridge an error"] = relative_error(found, plain)
    others = scikit_learn_distances(X, y, new)
    result["scikit-learn's EmpiricalCovariance"] = relative_error(others, plain)
    mixture = LSGM(1, covariance_type="full", reg_covar=reg_covar)
    densities = exact_log_densities(X, new, reg_covar)
    result["LSGM, one full Gaussian"] = relative_error(
        mixture.fit(X).score_samples(new), densities
    )
    return result


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="file for the table as CSV")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of singular covariances: they are the subject
    table = []
    with mpmath.workdps(DIGITS):
        for name, rows, n_classes in cases():
            for dtype in ("float16", "float32", "float64"):
                rounded = rows.astype(dtype)
                if not np.isfinite(rounded).all():
                    continue
                table.append(
                    {"rows": name, "type": dtype, **errors(rounded, n_classes)}
                )
                print(table[-1], flush=True)
    frame = pd.DataFrame(table)
    print(frame.to_string(float_format="{:.0e}".format))
    if options.out:
        frame.to_csv(options.out, index=False, float_format="%.0e")


if __name__ == "__main__":
    main()
