"""Features in Parquet and in data sets of others, as blocks read when wanted."""

from __future__ import annotations

import pickle

import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skood import LayerFeatures, LinearHead, Mahalanobis
from skood.features.arrow import ParquetColumn, read_column

RNG = np.random.default_rng(0)
N = 100


def some_features(dtype=np.float32):
    return LayerFeatures(
        {
            "stage/conv": RNG.normal(size=(N, 5)).astype(dtype),
            ("stage/conv", "max"): RNG.normal(size=(N, 1)),
            "logits": RNG.normal(size=(N, 3)).astype(dtype),
        },
        head=LinearHead(RNG.normal(size=(3, 5)), RNG.normal(size=3), "stage/conv"),
    )


def assert_same(one, other):
    assert one.widths == other.widths
    for key in one.block_names:
        np.testing.assert_array_equal(one.block(*key), other.block(*key))
        assert one.block(*key).dtype == other.block(*key).dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_they_come_back_from_parquet(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 9 * 16)
    features = some_features(dtype)
    path = tmp_path / "new" / "f.parquet"
    y = np.arange(N) % 3
    features.to_parquet(path, {"label": y})
    assert pq.read_metadata(path).num_row_groups == -(-N // 16)
    found = LayerFeatures.from_parquet(path)
    assert_same(found, features)
    assert found.pickles_as_path
    np.testing.assert_array_equal(found.head.weight, features.head.weight)
    assert found.head.layer == "stage/conv"
    np.testing.assert_array_equal(read_column(path, "label"), y)
    rows = RNG.permutation(N)[:30]
    for key in (rows, slice(5, 70, 3), slice(0, 0), y == 1):
        assert_same(found[key], features[key])
    column = pq.read_table(path)["stage/conv/avg"]
    assert pa.types.is_fixed_size_list(column.type)


def test_they_pickle_as_paths_and_are_noticed_to_have_changed(tmp_path):
    features = some_features()
    features.to_parquet(tmp_path / "f.parquet")
    found = LayerFeatures.from_parquet(tmp_path / "f.parquet")
    part = pickle.loads(pickle.dumps(found[10:20]))
    assert len(pickle.dumps(found.select("logits")[10:20])) < 1500
    assert_same(part, features[10:20])
    some_features().to_parquet(tmp_path / "f.parquet")
    with pytest.raises(ValueError, match="other rows"):
        pickle.loads(pickle.dumps(found)).block("logits")


def test_a_detector_is_fitted_on_them(tmp_path, monkeypatch):
    monkeypatch.setattr("skood.features.chunks.CHUNK_ELEMENTS", 200)
    features = some_features()
    for part in (0, 1):  # the order is that of the names
        rows = features[part * 50 : part * 50 + 50]
        rows.to_parquet(tmp_path / "folder" / f"{part}.parquet")
    found = LayerFeatures.from_parquet(tmp_path / "folder")
    here = Mahalanobis("stage/conv").fit(features)
    there = Mahalanobis("stage/conv").fit(found)
    assert here.offset_ == there.offset_
    np.testing.assert_array_equal(
        here.score_samples(features), there.score_samples(found)
    )


def test_columns_of_others_are_chosen_by_name(tmp_path):
    x, z = RNG.normal(size=(2, N, 4))
    table = pa.table({"emb": x.tolist(), "out/max": z.tolist(), "id": range(N)})
    path = tmp_path / "others.parquet"
    pq.write_table(table, path)
    assert LayerFeatures.from_parquet(path).block_names == [("out", "max")]
    named = LayerFeatures.from_parquet(path, {"layer3": "emb", ("out", "l2"): "id"})
    np.testing.assert_array_equal(named.block("layer3"), x)
    np.testing.assert_array_equal(named.block("out", "l2"), np.arange(N)[:, None])
    assert LayerFeatures.from_parquet([path, path], "emb").shape == (2 * N, 4)
    head = LinearHead(np.eye(4), np.zeros(4), "emb")
    assert LayerFeatures.from_parquet(path, ["emb"], head).head is head


def test_what_is_no_block_is_refused_by_name(tmp_path):
    path = tmp_path / "f.parquet"
    ragged = pa.array([[1.0, 2.0], [3.0]])
    holes = pa.array([[1.0], None])
    pq.write_table(pa.table({"r": ragged, "n": holes, "t": [["a"], ["b"]]}), path)
    with pytest.raises(ValueError, match="lists of 1 to 2 numbers"):
        LayerFeatures.from_parquet(path, "r")
    with pytest.raises(ValueError, match="without values"):
        LayerFeatures.from_parquet(path, "n")
    with pytest.raises(ValueError, match="holds lists of numbers"):
        LayerFeatures.from_parquet(path, "t")
    with pytest.raises(ValueError, match="there is no column 'x'"):
        LayerFeatures.from_parquet(path, "x")
    with pytest.raises(ValueError, match="say which are layers"):
        LayerFeatures.from_parquet(path)
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        LayerFeatures.from_parquet(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no rows"):
        ParquetColumn([_empty(tmp_path)], "a/avg")


def _empty(folder):
    path = folder / "empty.parquet"
    pq.write_table(pa.table({"a/avg": pa.array([], pa.list_(pa.float32()))}), path)
    return path


def test_what_parquet_cannot_hold_is_refused(tmp_path):
    features = some_features()
    with pytest.raises(ValueError, match="one for each of 100 rows"):
        features.to_parquet(tmp_path / "f", {"label": [1, 2]})
    with pytest.raises(ValueError, match="under a name other than"):
        features.to_parquet(tmp_path / "f", {"logits/logits": np.arange(N)})
    paired = LayerFeatures(
        {"a": np.eye(2)}, views={"j": LayerFeatures({"a": np.eye(2)})}
    )
    with pytest.raises(ValueError, match="views"):
        paired.to_parquet(tmp_path / "f")
    assert [*tmp_path.iterdir()] == []


def test_a_dask_array_is_a_block_as_it_is():
    x = RNG.normal(size=(N, 6))
    features = LayerFeatures({"a": dask.array.from_array(x, chunks=(17, 6))})
    assert not features.in_memory
    np.testing.assert_array_equal(features[[3, 1]].block("a"), x[[3, 1]])
    in_memory = LayerFeatures({"a": x})
    np.testing.assert_array_equal(
        Mahalanobis().fit(features).score_samples(features),
        Mahalanobis().fit(in_memory).score_samples(in_memory),
    )


def test_a_data_set_of_hugging_face_is_read_when_wanted(tmp_path):
    datasets = pytest.importorskip("datasets")
    x, z = RNG.normal(size=(2, N, 4)).astype(np.float32)
    columns = {"emb": x.tolist(), "logits/logits": z.tolist(), "text": ["a"] * N}
    in_memory = datasets.Dataset.from_dict(columns)
    features = LayerFeatures.from_huggingface(in_memory, {"layer3": "emb"})
    np.testing.assert_array_equal(features.block("layer3"), x.astype(np.float64))
    assert not features.pickles_as_path
    in_memory.save_to_disk(tmp_path / "set")
    stored = datasets.load_from_disk(tmp_path / "set")
    found = LayerFeatures.from_huggingface(
        stored, {"layer3": "emb", "out": "logits/logits"}
    )
    assert found.pickles_as_path
    for rows in (slice(3, 20, 2), [5, 1, 5], np.arange(N) < 3):
        np.testing.assert_array_equal(found[rows].block("layer3"), x[rows])
    np.testing.assert_array_equal(np.asarray(found), np.hstack([x, z]))
    with pytest.raises(ValueError, match="'text' is of type"):
        LayerFeatures.from_huggingface(stored, "text")
    with pytest.raises(ValueError, match="'emb' has no rows"):
        LayerFeatures.from_huggingface(stored.select([]), "emb")


def test_tensors_and_structs_of_arrow_are_lists_of_numbers(tmp_path):
    x = RNG.normal(size=(6, 4))
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(x.reshape(6, 2, 2))
    inner = pa.FixedSizeListArray.from_arrays(x.ravel(), 4)
    structs = pa.StructArray.from_arrays([inner], ["data"])
    for column in (tensors, structs):
        pieces = pa.chunked_array([column[:2], column[2:]])
        pq.write_table(pa.table({"a": pieces}), tmp_path / "f.parquet")
        found = LayerFeatures.from_parquet(tmp_path / "f.parquet", "a")
        np.testing.assert_array_equal(found.block("a"), x)


def test_several_blocks_are_no_one_array_without_a_copy():
    features = some_features()
    with pytest.raises(ValueError, match="cannot be one array without a copy"):
        features.__array__(copy=False)
    assert features.select("logits").__array__(np.float64).dtype == np.float64


def test_features_without_rows_are_a_file_without_rows(tmp_path):
    features = some_features()
    features[:0].to_parquet(tmp_path / "0.parquet")
    assert pq.read_table(tmp_path / "0.parquet").num_rows == 0
    with pytest.raises(ValueError, match="no rows"):
        LayerFeatures.from_parquet(tmp_path / "0.parquet")
    features.to_parquet(tmp_path / "1.parquet")
    assert_same(LayerFeatures.from_parquet(tmp_path), features)
