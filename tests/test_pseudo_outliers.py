"""Each kind of pseudo outlier is what it says, in the dtype and range of the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import load_digits

from skood.model_selection import (
    InlierKFold,
    Jigsaw,
    auroc_scorer,
    make_pseudo_outliers,
)
from skood.model_selection._outlier_kinds import FEATURE_KINDS, IMAGE_KINDS

MAKE = {"random_state": 0}
EACH_IMAGE = pytest.mark.parametrize("kind", sorted(IMAGE_KINDS))
EACH_FEATURE = pytest.mark.parametrize("kind", sorted(FEATURE_KINDS))
SYNTHETIC = ["blob", "gaussian", "rademacher", "uniform"]


def colour_images(dtype="float32", n=12, side=16):
    """Images (n, 3, side, side) whose values run from -1 to 2, or 0 to 255."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 2, (n, 3, side, side))
    images.flat[:2] = -1, 2
    if dtype == "uint8":
        images = (images + 1) * 85
    return images.astype(dtype)


def made(X, y=None, **options):
    return make_pseudo_outliers(X, y, **MAKE, **options)[0][len(X) :]


@EACH_IMAGE
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
def test_images_keep_dtype_and_range(kind, dtype):
    X = (
        colour_images("uint8").astype(dtype)
        if dtype == "int64"
        else colour_images(dtype)
    )
    y = np.arange(12) % 3
    X_all, y_all = make_pseudo_outliers(X, y, kind=kind, **MAKE)
    assert X_all.dtype == X.dtype
    assert X_all.shape == (24, 3, 16, 16)
    np.testing.assert_array_equal(X_all[:12], X)
    np.testing.assert_array_equal(y_all, [*y, *[-1] * 12])
    outliers = X_all[12:]
    assert outliers.min() >= X.min()
    assert outliers.max() <= X.max()
    assert (outliers != X).any(axis=(1, 2, 3)).all()


@EACH_IMAGE
def test_images_are_made_by_the_seed_alone(kind):
    X = colour_images()
    first = made(X, kind=kind)
    np.testing.assert_array_equal(first, made(X, kind=kind))
    other = make_pseudo_outliers(X, kind=kind, random_state=1)[0][12:]
    if kind == "invert":
        np.testing.assert_array_equal(first, other)
    else:
        assert (first != other).any()


@EACH_IMAGE
def test_channels_may_come_last_or_be_missing(kind):
    X = colour_images()
    first = made(X, kind=kind)
    last = made(np.moveaxis(X, 1, -1), kind=kind)
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)
    grey = X[:, :1]
    np.testing.assert_array_equal(
        made(grey[:, 0], kind=kind), made(grey, kind=kind)[:, 0]
    )
    five = np.concatenate([X, X[:, :2]], axis=1)
    told = made(five, kind=kind, channel_axis=1)
    assert told.shape == (12, 5, 16, 16)
    moved = made(np.moveaxis(five, 1, -1), kind=kind, channel_axis=-1)
    np.testing.assert_array_equal(np.moveaxis(moved, -1, 1), told)


def test_ambiguous_channels_are_refused():
    with pytest.raises(ValueError, match=r"cannot tell.*none has.*channel_axis=1 or"):
        make_pseudo_outliers(np.zeros((2, 5, 8, 8)))
    with pytest.raises(
        ValueError, match=r"cannot tell the channels.*both have a length"
    ):
        make_pseudo_outliers(np.zeros((2, 3, 8, 3)))
    with pytest.raises(ValueError, match="channel_axis must be 1, 3 or -1; got 2"):
        make_pseudo_outliers(colour_images(), channel_axis=2)
    with pytest.raises(
        ValueError, match=r"channel_axis=1 is for X of 4 axes; got .*3, 8"
    ):
        make_pseudo_outliers(np.zeros((3, 8, 8)), channel_axis=1)


def test_jigsaw_is_the_extractors_view():
    X = colour_images()
    wanted = Jigsaw(grid=4, random_state=0)(X, np.arange(12))
    np.testing.assert_array_equal(made(X, kind="jigsaw", grid=4), wanted)
    # tiles are moved, not changed: 16 = 3 * 5 + 1, so the last row and column are 0
    outlier = made(X, kind="jigsaw")[0]
    assert (outlier[:, 15] == 0).all()
    assert (outlier[:, :, 15] == 0).all()
    np.testing.assert_array_equal(
        np.sort(outlier[:, :15, :15], axis=None), np.sort(X[0, :, :15, :15], axis=None)
    )


def test_noise_has_the_moments_it_says():
    X = colour_images("float64", n=40, side=24)
    gaussian = (made(X, kind="gaussian", scale=0.1) + 1) / 3
    assert gaussian.mean() == pytest.approx(0.5, abs=0.002)
    assert gaussian.std() == pytest.approx(0.1, abs=0.002)
    uniform = (made(X, kind="uniform") + 1) / 3
    np.testing.assert_allclose(
        np.quantile(uniform, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01
    )
    ends = made(X, kind="rademacher")
    assert set(np.unique(ends)) == {-1.0, 2.0}
    assert ends.mean() == pytest.approx(0.5, abs=0.03)


def test_blobs_are_smooth_shapes_on_an_empty_ground():
    blobs = made(colour_images("float64", n=20, side=32), kind="blob")
    empty = blobs == -1
    assert empty.mean() == pytest.approx(0.7, abs=0.01)
    beside = np.mean(empty[..., 1:] == empty[..., :-1])
    assert beside > 0.85  # 0.58 if pixels were independent
    lit = blobs[~empty]
    assert lit.min() > -0.2  # a sharp edge, well above the ground
    wide = made(colour_images("float64", n=20, side=32), kind="blob", sigma=4.0) == -1
    assert np.mean(wide[..., 1:] == wide[..., :-1]) > beside


def test_mixup_blends_with_another_class():
    X = np.arange(6.0)[:, None, None, None] * np.ones((6, 1, 5, 5))
    y = np.array([0, 0, 0, 1, 1, 1])
    blends = made(X, y, kind="mixup", weight=0.75, n_outliers=600)[:, 0, 0, 0]
    rows = np.repeat([np.arange(6)], 100, axis=0).ravel()
    partners = np.rint(4 * (blends - 0.75 * rows)).astype(int)
    np.testing.assert_allclose(blends, 0.75 * rows + 0.25 * partners)
    assert (y[partners] != y[rows]).all()
    counts = np.bincount(partners, minlength=6)
    assert (counts > 60).all()  # each of 100 expected
    # without classes the partner is any other row
    alone = made(X, kind="mixup", weight=0.75, n_outliers=600)[:, 0, 0, 0]
    others = np.rint(4 * (alone - 0.75 * rows)).astype(int)
    assert (others != rows).all()
    assert len(set(zip(rows, others, strict=True))) == 30


def test_invert_mirrors_the_range():
    X = colour_images("uint8")
    np.testing.assert_array_equal(made(X, kind="invert"), 255 - X)


def test_fourier_phase_keeps_amplitudes_and_mean():
    rng = np.random.default_rng(0)
    X = rng.normal(scale=0.1, size=(4, 3, 15, 16))
    X.flat[:2] = -9, 9  # so that nothing is clipped
    scrambled = made(X, kind="fourier_phase")
    amplitudes = np.abs(np.fft.fft2(X)), np.abs(np.fft.fft2(scrambled))
    # self-conjugate frequencies have a real phase only; the inverse drops the rest
    inner = (slice(None), slice(None), slice(1, None), slice(1, 8))
    np.testing.assert_allclose(amplitudes[1][inner], amplitudes[0][inner], rtol=1e-9)
    np.testing.assert_allclose(scrambled.mean((2, 3)), X.mean((2, 3)), atol=1e-12)
    turn = np.angle(np.fft.fft2(scrambled) / np.fft.fft2(X))[inner]
    np.testing.assert_allclose(
        np.exp(1j * turn), np.exp(1j * turn[:, :1].repeat(3, axis=1)), atol=1e-6
    )


@pytest.mark.parametrize("kind", [*sorted(IMAGE_KINDS), *sorted(FEATURE_KINDS)])
@pytest.mark.parametrize("n_outliers", [1, 5, 12, 30])
def test_any_number_of_outliers(kind, n_outliers):
    X = colour_images() if kind in IMAGE_KINDS else colour_images().reshape(12, -1)
    X_all, y_all = make_pseudo_outliers(X, kind=kind, n_outliers=n_outliers, **MAKE)
    assert len(X_all) == 12 + n_outliers
    np.testing.assert_array_equal(y_all, [0] * 12 + [-1] * n_outliers)


def test_every_inlier_is_used_about_equally_often():
    X = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    used = 3 - made(X, kind="invert", n_outliers=10)[:, 0, 0]
    counts = np.bincount(used.astype(int), minlength=4)
    assert sorted(counts) == [2, 2, 3, 3]


@pytest.mark.parametrize("kind", [*sorted(IMAGE_KINDS), *sorted(FEATURE_KINDS)])
def test_nothing_is_made_from_outliers(kind):
    X = colour_images() if kind in IMAGE_KINDS else colour_images().reshape(12, -1)
    y = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, -1, -1])
    extreme = X.copy()
    extreme[10:] = 1e4
    found, y_all = make_pseudo_outliers(extreme, y, kind=kind, **MAKE)
    np.testing.assert_array_equal(found[10:12], extreme[10:])
    assert y_all.tolist() == [*y, *[-1] * 10]
    np.testing.assert_array_equal(found[12:], made(X[:10], y[:10], kind=kind))


def test_batches_do_not_show(monkeypatch):
    X = colour_images()
    whole = {kind: made(X, kind=kind) for kind in IMAGE_KINDS}
    monkeypatch.setattr("skood.model_selection.pseudo_outliers._BATCH_VALUES", 2000)
    for kind in ("invert", "jigsaw", "gaussian", "uniform"):
        np.testing.assert_array_equal(made(X, kind=kind), whole[kind])


def test_permuted_columns_keep_margins_and_lose_dependence():
    rng = np.random.default_rng(0)
    first = rng.normal(size=3000)
    X = np.c_[first, first, np.arange(3000) % 7].astype("float32")
    outliers = made(X, kind="permute_columns")
    assert outliers.dtype == np.float32
    for column in range(3):
        assert set(outliers[:, column]) <= set(X[:, column])
        assert outliers[:, column].mean() == pytest.approx(X[:, column].mean(), abs=0.2)
    assert abs(np.corrcoef(outliers.T)[0, 1]) < 0.1


def test_extrapolation_goes_away_from_the_class_mean():
    X = np.array([[0.0, 0], [2, 0], [10, 10], [10, 14]])
    y = [0, 0, 1, 1]
    np.testing.assert_array_equal(
        made(X, y, kind="extrapolate", factor=3.0),
        [[-2, 0], [4, 0], [10, 6], [10, 18]],
    )
    np.testing.assert_array_equal(
        made(X, kind="extrapolate"), X.mean(0) + 2 * (X - X.mean(0))
    )
    whole = made((10 * X).astype("uint8"), y, kind="extrapolate", factor=3.0)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole[0], [0, 0])  # not wrapped around below 0


def test_held_out_classes_are_relabelled():
    X, y = np.arange(12).reshape(6, 2), np.array([0, 1, 2, 2, -1, 1])
    X_all, y_all = make_pseudo_outliers(X, y, kind="class_holdout", classes=[1, 2])
    assert X_all is X
    assert y_all.tolist() == [0, -1, -1, -1, -1, -1]
    assert y.tolist() == [0, 1, 2, 2, -1, 1]
    one = make_pseudo_outliers(X, y, kind="class_holdout", classes=2)[1]
    assert one.tolist() == [0, 1, -1, -1, -1, 1]
    drawn = {
        tuple(make_pseudo_outliers(X, y, kind="class_holdout", random_state=seed)[1])
        for seed in range(20)
    }
    assert len(drawn) == 3
    images = colour_images()
    assert make_pseudo_outliers(
        images, np.arange(12), kind="class_holdout", classes=[3]
    )[1].tolist() == [0, 1, 2, -1, *range(4, 12)]


@pytest.mark.parametrize(
    ("labels", "mark", "kind"),
    [
        (np.array([0, 1, 2], np.uint8), -1, "i"),
        (np.array([True, False, True]), -1, "i"),
        (np.array([0.0, 1.0, 2.0]), -1.0, "f"),
        (np.array(["a", "b", "c"]), "-1", "U"),
        (np.array([b"a", b"b", b"c"]), b"-1", "S"),
        (np.array(["a", "b", "c"], object), "-1", "U"),
        (pd.Series([0, 1, 2]), -1, "i"),
    ],
)
def test_labels_of_any_type_can_hold_the_mark(labels, mark, kind):
    _, y_all = make_pseudo_outliers(np.eye(3), labels, kind="permute_columns")
    assert y_all.dtype.kind == kind
    assert list(y_all[3:]) == [mark] * 3
    assert list(y_all[:3]) == list(labels)
    held = make_pseudo_outliers(
        np.eye(3), labels, kind="class_holdout", classes=[labels[1]]
    )[1]
    assert held[1] == mark


def test_frames_stay_frames():
    frame = pd.DataFrame(
        {"n": [1, 2, 3], "x": [0.5, 1.5, 2.5], "c": pd.Categorical(["a", "b", "a"])}
    )
    X_all, y_all = make_pseudo_outliers(frame, kind="permute_columns", **MAKE)
    assert X_all.shape == (6, 3)
    assert len(y_all) == 6
    assert X_all.dtypes.to_dict() == frame.dtypes.to_dict()
    pd.testing.assert_frame_equal(X_all[:3], frame)
    assert set(X_all["c"]) == {"a", "b"}
    with pytest.raises(ValueError, match='"extrapolate" needs numbers'):
        make_pseudo_outliers(frame, kind="extrapolate")


def test_tensors_become_arrays():
    torch = pytest.importorskip("torch")
    X = colour_images()
    X_all, _ = make_pseudo_outliers(torch.from_numpy(X), **MAKE)
    assert isinstance(X_all, np.ndarray)
    np.testing.assert_array_equal(X_all[12:], made(X))


def test_kinds_that_make_no_sense_are_refused():
    features, images = np.eye(4), colour_images()
    with pytest.raises(
        ValueError,
        match=r"'jigsaw' makes no sense for features of shape \(4, 4\); valid kinds: "
        r"class_holdout, extrapolate, permute_columns",
    ):
        make_pseudo_outliers(features)
    with pytest.raises(
        ValueError,
        match=r"'extrapolate' makes no sense for images.*blob, class_.*uniform\. ",
    ):
        make_pseudo_outliers(images, kind="extrapolate")
    with pytest.raises(ValueError, match="kind='puzzle' makes no sense"):
        make_pseudo_outliers(images, kind="puzzle")
    with pytest.raises(ValueError, match=r"X must be images.*got shape \(4,\)"):
        make_pseudo_outliers(np.zeros(4))
    with pytest.raises(ValueError, match='"permute_columns" needs 2 columns at least'):
        make_pseudo_outliers(features[:, :1], kind="permute_columns")
    with pytest.raises(
        ValueError, match=r"needs 2 rows at least of each class.*y=None"
    ):
        make_pseudo_outliers(features, [0, 0, 0, 1], kind="extrapolate")
    with pytest.raises(ValueError, match='kind="mixup" needs 2 inliers at least'):
        make_pseudo_outliers(images[:1], kind="mixup")


def test_bad_options_are_named():
    images = colour_images()
    with pytest.raises(
        TypeError, match="'jigsaw' has no option size; its options: grid"
    ):
        make_pseudo_outliers(images, size=3)
    with pytest.raises(
        TypeError, match="'uniform' has no option grid; its options: none"
    ):
        make_pseudo_outliers(images, kind="uniform", grid=3)
    with pytest.raises(TypeError, match="'class_holdout' has no option class; its opt"):
        make_pseudo_outliers(images, kind="class_holdout", **{"class": 1})
    for kind, name, value, wanted in [
        ("gaussian", "scale", 0, "positive"),
        ("blob", "sigma", -1, "positive"),
        ("mixup", "weight", 1, "between 0 and 1"),
        ("jigsaw", "grid", 1, "an integer >= 2"),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be {wanted}.*got {value}"):
            make_pseudo_outliers(images, kind=kind, **{name: value})
    with pytest.raises(ValueError, match="factor must be greater than 1; got 1"):
        make_pseudo_outliers(np.eye(3), kind="extrapolate", factor=1)
    with pytest.raises(ValueError, match="n_outliers must be an integer >= 1; got 0"):
        make_pseudo_outliers(images, n_outliers=0)


def test_bad_input_is_named():
    images = colour_images()
    with pytest.raises(ValueError, match="X has 12 rows but y 3; one label per row"):
        make_pseudo_outliers(images, [0, 1, 2])
    with pytest.raises(ValueError, match="y has no inliers: there is nothing to make"):
        make_pseudo_outliers(images, -np.ones(12))
    with pytest.raises(ValueError, match=r"finite and not constant.*from 1\.0 to 1\.0"):
        make_pseudo_outliers(np.ones((3, 4, 4)))
    with pytest.raises(ValueError, match=r"must be finite and not constant.*nan"):
        make_pseudo_outliers(np.full((3, 4, 4), np.nan))
    with pytest.raises(ValueError, match=r"X must be images: numbers.*got dtype <U1"):
        make_pseudo_outliers(np.full((3, 4, 4), "a"))
    with pytest.raises(ValueError, match=r"at least 2 pixels.*\(1, 4\)"):
        make_pseudo_outliers(np.zeros((3, 1, 1, 4)), channel_axis=1)
    with pytest.raises(
        ValueError, match=r"some, not all, of the classes.*\[0, 1\]; got"
    ):
        make_pseudo_outliers(np.eye(2), [0, 1], kind="class_holdout", classes=[0, 1])
    with pytest.raises(ValueError, match=r"some, not all.*got \[5\].*Without y"):
        make_pseudo_outliers(np.eye(2), [0, 1], kind="class_holdout", classes=[5])
    with pytest.raises(ValueError, match=r"class_holdout.*leave n_outliers out"):
        make_pseudo_outliers(np.eye(2), [0, 1], kind="class_holdout", n_outliers=3)


@EACH_FEATURE
def test_made_rows_are_outliers_to_a_detector(kind):
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 2], y[y < 2]
    X = X[:, X.std(0) > 0.5]
    X_all, y_all = make_pseudo_outliers(X, y, kind=kind, **MAKE)
    train, test = next(InlierKFold(3).split(X_all, y_all))
    detector = EllipticEnvelope(support_fraction=1.0).fit(X_all[train])
    assert auroc_scorer(detector, X_all[test], y_all[test]) > 0.9
