"""The recipes of examples/serving: run as their READMEs say, and looked at closer."""

from __future__ import annotations

import asyncio
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import skood

RECIPES = Path(__file__).parents[1] / "examples" / "serving"
TRANSCRIPTS = Path(__file__).parents[1] / "docs" / "user_guide" / "recipes"

ONNX_INPUTS = {"rows": (np.float32, ["n", 1, 8, 8])}
ONNX_OUTPUTS = {
    "output": (np.float32, ["n", 8]),
    "score": (np.float64, ["n"]),
    "p_value": (np.float32, ["n"]),
    "is_inlier": (np.bool_, ["n"]),
}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A copy of the recipes, whose modules can be imported, and the served model."""
    if not RECIPES.is_dir():
        pytest.skip("the examples are not here")
    folder = tmp_path_factory.mktemp("recipes") / "serving"
    shutil.copytree(RECIPES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        run("python make_model.py served")
        yield folder


def run(line):
    """Run a line of a README, ``python file ...`` or ``python -m module ...``, here."""
    program, *words = shlex.split(line)
    assert program == "python", line
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' packages
        if words[0] == "-m":
            patch.setattr(sys, "argv", words[1:])
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            patch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")


def lines_of(folder, recipe):
    """Yield the lines that a README has run, but for the making of the model."""
    text = (folder / recipe / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if "make_model.py" not in line:
                yield line


# FastAPI -------------------------------------------------------------------------


@pytest.fixture
def service(recipes):
    """The service of the model, with no state from before."""
    from fastapi_service.service import create_app

    shutil.rmtree(recipes / "served" / "watch", ignore_errors=True)
    return lambda: create_app(recipes / "served")


@pytest.fixture(scope="module")
def rows(recipes):
    return np.load(recipes / "served" / "rows.npy")


def test_the_service_answers_as_the_pipeline(recipes, service, rows):
    from fastapi.testclient import TestClient
    from make_model import DigitsNetwork

    pipeline = skood.load(recipes / "served" / "detector", network=DigitsNetwork)
    with TestClient(service()) as client:
        health = client.get("/health").json()
        found = client.post("/score", json={"inputs": rows.tolist()}).json()
    scored = skood.score_and_predict(pipeline, rows)
    np.testing.assert_allclose(found["score"], scored.scores, rtol=1e-5)
    assert found["is_inlier"] == (scored.flags == 1).tolist()
    assert sum(found["is_inlier"][:20]) >= 17
    assert not any(found["is_inlier"][20:])
    assert health == {"status": "ok", "skood": skood.__version__, "alarms": []}


def test_the_service_counts(service, rows):
    from fastapi.testclient import TestClient

    with TestClient(service()) as client:
        for part in (rows[:3], rows[20:25]):
            client.post("/score", json={"inputs": part.tolist()})
        text = client.get("/metrics").text
    found = dict(line.split() for line in text.splitlines())
    wanted = {"requests": 2, "batches": 2, "rows": 8}
    assert {name: int(found[f"skood_{name}_total"]) for name in wanted} == wanted
    assert 5 <= int(found["skood_flagged_total"]) <= 8
    assert {"skood_shift_alarm", "skood_rate_log_capital"} <= set(found)


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        ([[1.0, 2.0]], 422, "inputs have shape (1, 2): wanted is ('n', 1, 8, 8)"),
        ([], 422, "inputs have shape"),
        ("text", 422, "list"),
        ([["a"]], 422, "no array of numbers"),
        (np.zeros((2000, 1, 8, 8)).tolist(), 413, "at most 1024"),
        (np.full((1, 1, 8, 8), 1e300).tolist(), 422, "infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_the_service_refuses(service, inputs, code, message):
    from fastapi.testclient import TestClient

    with TestClient(service()) as client:
        found = client.post("/score", json={"inputs": inputs})
        assert client.get("/health").json()["status"] == "ok"
    assert found.status_code == code
    assert message in found.text


def test_alarms_are_raised_and_outlive_a_restart(recipes, service, rows):
    """Digits raise none; patches of photographs raise both; a new process knows."""
    from fastapi.testclient import TestClient

    known = skood.datasets.load_digits_ood().X_test
    with TestClient(service()) as client:
        for part in np.array_split(known, 4):
            client.post("/score", json={"inputs": part.tolist()})
        assert client.get("/health").json()["alarms"] == []
        before = client.get("/metrics").text
    with TestClient(service()) as client:
        _same_capital(before, client.get("/metrics").text)
        for _ in range(3):
            client.post("/score", json={"inputs": rows[20:].tolist()})
        alarms = client.get("/health").json()["alarms"]
    assert alarms == ["shift_alarm", "rate_alarm"]
    with TestClient(service()) as client:
        assert client.get("/health").json()["alarms"] == alarms
    shift = skood.load(recipes / "served" / "watch" / "shift")
    assert len(known) <= shift.alarm_at_ < len(known) + 60
    assert len(shift.p_values_) == len(known) + 60


def _same_capital(before, after):
    kept = [
        [line for line in text.splitlines() if "capital" in line or "share" in line]
        for text in (before, after)
    ]
    assert kept[0] == kept[1]


@pytest.fixture
def batcher(recipes):
    from fastapi_service.batching import Batcher

    return Batcher


def together(batcher, requests):
    """Return what a batcher answers to requests at one time, errors among them."""

    async def answers():
        task = asyncio.create_task(batcher.run())
        found = await asyncio.gather(
            *(batcher.answer(rows) for rows in requests), return_exceptions=True
        )
        task.cancel()
        return found

    return asyncio.run(answers())


def test_requests_share_a_batch(batcher):
    sizes = []

    def doubled(rows):
        sizes.append(len(rows))
        return {"twice": 2 * rows}

    requests = [np.arange(10.0 * n, 10 * n + 1 + n % 5) for n in range(40)]
    one = batcher(doubled, max_rows=64, wait=0.05)
    for rows, found in zip(requests, together(one, requests), strict=True):
        np.testing.assert_array_equal(found["twice"], 2 * rows)
    assert sum(sizes) == sum(map(len, requests))
    assert one.batches == len(sizes) == 2
    assert max(sizes) < 64 + 5


def test_a_bad_request_fails_alone(batcher):
    def refusing(rows):
        if (rows < 0).any():
            raise ValueError("negative")
        return {"root": np.sqrt(rows)}

    requests = [np.array([4.0]), np.array([-1.0]), np.array([9.0, 16.0])]
    first, second, third = together(batcher(refusing, wait=0.05), requests)
    assert first["root"].tolist() == [2.0]
    assert isinstance(second, ValueError)
    assert third["root"].tolist() == [3.0, 4.0]


# MLflow ---------------------------------------------------------------------------


@pytest.mark.slow
def test_mlflow_as_its_readme_says(recipes, capsys):
    import mlflow.sklearn

    for line in lines_of(recipes, "mlflow_pyfunc"):
        if "sklearn_flavour" in line and not _knows_skops(mlflow.sklearn.save_model):
            continue  # of an older MLflow
        run(line)
    printed = capsys.readouterr().out
    assert re.search(r"score +p_value +is_inlier", printed)
    assert re.search(r"9 +0\.\d+ +0\.\d+ +False", printed)
    if _knows_skops(mlflow.sklearn.save_model):
        assert "40 of 40 scores are the same" in printed
    files = {file.name for file in (recipes / "store").rglob("*") if file.is_file()}
    assert "estimator.skops" in files
    assert not any(name.endswith((".pkl", ".joblib")) for name in files)


def _knows_skops(function):
    from inspect import signature

    return "skops_trusted_types" in signature(function).parameters


# ONNX --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """A file of the inputs and outputs that skood.export gives, of a simple formula."""
    onnx = pytest.importorskip("onnx")
    node, tensor = onnx.helper.make_node, onnx.helper.np_dtype_to_tensor_dtype

    def values(described):
        return [
            onnx.helper.make_tensor_value_info(name, tensor(np.dtype(kind)), shape)
            for name, (kind, shape) in described.items()
        ]

    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [3], [1, 2, 3])
    half = onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5])
    nodes = [
        node("ReduceMean", ["rows", "axes"], ["p_value"], keepdims=0),
        node("ReduceMax", ["rows", "rest"], ["output"], keepdims=0),
        node("Cast", ["p_value"], ["score"], to=onnx.TensorProto.DOUBLE),
        node("Greater", ["p_value", "half"], ["is_inlier"]),
    ]
    rest = onnx.helper.make_tensor("rest", onnx.TensorProto.INT64, [2], [1, 2])
    graph = onnx.helper.make_graph(
        nodes, "small", values(ONNX_INPUTS), values(ONNX_OUTPUTS), [axes, half, rest]
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.helper.set_model_props(
        model, {"skood.certificate": '{"detector": "a mean", "parity": {"rows": 7}}'}
    )
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save(model, path)
    return path


HIDDEN = """
import sys
from importlib.abc import MetaPathFinder

class Hiding(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "sklearn", "scipy", "skood", "onnx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hiding())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Run a script in an environment that has next to nothing."""


def bare(*words):
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bare_environment_is_bare(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch")
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        bare(script)


def test_onnxruntime_alone(recipes, onnx_file, tmp_path):
    values = np.linspace(0, 1, 100, dtype=np.float32)
    np.save(
        tmp_path / "rows.npy",
        np.broadcast_to(values[:, None, None, None], (100, 1, 8, 8)),
    )
    printed = bare(
        recipes / "onnxruntime_only" / "answer.py", onnx_file, tmp_path / "rows.npy"
    ).splitlines()
    assert printed[:2] == ["detector: a mean", "compared on 7 rows"]
    assert len(printed) == 12
    assert printed[2] == f"{values[15]:9.3f}  p {values[15]:.3f}  outlier"


def test_every_batch_of_rows_is_answered(recipes, onnx_file):
    pytest.importorskip("onnxruntime")
    answer = runpy.run_path(str(recipes / "onnxruntime_only" / "answer.py"))
    rows = np.random.default_rng(0).random((150, 1, 8, 8), dtype=np.float32)
    found = answer["answers"](answer["opened"](str(onnx_file)), rows)
    np.testing.assert_allclose(found["p_value"], rows.mean((1, 2, 3)), rtol=1e-5)
    assert found["is_inlier"].tolist() == (found["p_value"] > 0.5).tolist()


@pytest.mark.slow
def test_the_readmes_of_onnx(recipes, configured, capfd):
    pytest.importorskip("onnxscript")
    printed = {}
    for recipe in ("onnxruntime_only", "triton_repository"):
        for line in lines_of(recipes, recipe):
            if "answer.py" in line:
                print(bare(*shlex.split(line)[1:]))
            else:
                run(line)
        printed[recipe] = capfd.readouterr().out
    said = printed["onnxruntime_only"]
    assert "compared on 433 rows" in said
    assert len(re.findall(r"p 0\.\d{3}  in-distribution", said)) >= 4
    assert len(re.findall(r"p 0\.\d{3}  outlier", said)) >= 5
    text = (recipes / "models" / "detector" / "config.pbtxt").read_text()
    config = _parsed(text, configured)
    assert [*config.input[0].dims] == [1, 8, 8]
    assert [tensor.name for tensor in config.output] == [*ONNX_OUTPUTS]


# Triton ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def configured():
    """What Triton documents of a model's configuration, as a message of protobuf.

    Numbers of fields are not those of Triton: a text has names alone.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="config.proto", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    types = ["BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64"]
    file.enum_type.add(name="DataType").value.extend(
        descriptor_pb2.EnumValueDescriptorProto(name=f"TYPE_{name}", number=number)
        for number, name in enumerate(["INVALID", *types])
    )
    messages = {
        "Reshape": {"shape": ("INT64", True)},
        "Tensor": {
            "name": ("STRING", False),
            "data_type": ("DataType", False),
            "dims": ("INT64", True),
            "reshape": ("Reshape", False),
        },
        "Batching": {"max_queue_delay_microseconds": ("UINT64", False)},
        "ModelConfig": {
            "name": ("STRING", False),
            "platform": ("STRING", False),
            "max_batch_size": ("INT32", False),
            "input": ("Tensor", True),
            "output": ("Tensor", True),
            "dynamic_batching": ("Batching", False),
        },
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field, (kind, repeated)) in enumerate(fields.items(), start=1):
            own = message.field.add(name=field, number=number)
            own.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in messages or kind == "DataType":
                own.type_name = f".{kind}"
                own.type = kinds.TYPE_ENUM if kind == "DataType" else kinds.TYPE_MESSAGE
            else:
                own.type = getattr(kinds, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelConfig"))


def _parsed(text, configured):
    from google.protobuf import text_format

    return text_format.Parse(text, configured())


TRITON_TYPES = {np.float32: "FP32", np.float64: "FP64", np.bool_: "BOOL"}


def test_the_repository_of_triton(recipes, onnx_file, configured, tmp_path, capsys):
    run(f"python -m triton_repository.make_repository {onnx_file} {tmp_path} digits")
    text = (tmp_path / "digits" / "config.pbtxt").read_text()
    assert capsys.readouterr().out == text
    assert (
        tmp_path / "digits" / "1" / "model.onnx"
    ).read_bytes() == onnx_file.read_bytes()
    config = _parsed(text, configured)
    assert (config.name, config.platform) == ("digits", "onnxruntime_onnx")
    assert config.max_batch_size == 64
    for found, wanted in ((config.input, ONNX_INPUTS), (config.output, ONNX_OUTPUTS)):
        assert [tensor.name for tensor in found] == [*wanted]
        for tensor, (kind, (_, *rest)) in zip(found, wanted.values(), strict=True):
            known = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type
            name = known.values_by_number[tensor.data_type].name
            assert name == f"TYPE_{TRITON_TYPES[kind]}"
            assert [*tensor.dims] == (rest or [1])
            assert tensor.HasField("reshape") == (not rest)
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000


def test_triton_needs_rows_of_any_number(recipes, onnx_file):
    import onnx
    from triton_repository.make_repository import configuration

    model = onnx.load(onnx_file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    with pytest.raises(ValueError, match="'rows' has 8 rows, always"):
        configuration(model, "fixed")


# What the READMEs promise ------------------------------------------------------------


def test_every_recipe_is_listed():
    text = (RECIPES / "README.md").read_text(encoding="utf-8")
    folders = {f.name for f in RECIPES.iterdir() if f.is_dir() and f.name[0] != "_"}
    assert folders == set(re.findall(r"\[\w+\]\((\w+)\)", text))
    for name in folders:
        assert (RECIPES / name / "README.md").is_file()
        assert list(RECIPES.joinpath(name).glob("*.py"))


@pytest.mark.parametrize("recipe", ["fastapi_service", "mlflow_pyfunc"])
def test_a_recipe_installs_all_that_it_runs_with(recipe):
    transcripts = runpy.run_path(str(RECIPES / "transcripts.py"))
    commands = transcripts["commands_of"]((RECIPES / recipe / "README.md").read_text())
    (only,) = transcripts["parts_of"](commands)
    assert only == commands
    assert only[0].startswith("pip install skood ")


def test_a_second_machine_is_an_environment_of_its_own():
    transcripts = runpy.run_path(str(RECIPES / "transcripts.py"))
    readme = (RECIPES / "onnxruntime_only" / "README.md").read_text(encoding="utf-8")
    first, second = transcripts["parts_of"](transcripts["commands_of"](readme))
    assert "python export_model.py served" in first
    assert second[0] == "pip install onnxruntime numpy"


def test_the_transcripts_are_of_the_commands_of_today():
    commands_of = runpy.run_path(str(RECIPES / "transcripts.py"))["commands_of"]
    for transcript in TRANSCRIPTS.glob("*.txt"):
        readme = RECIPES / transcript.stem / "README.md"
        lines = transcript.read_text(encoding="utf-8").splitlines()
        ran = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        assert ran == commands_of(readme.read_text(encoding="utf-8")), transcript.stem
