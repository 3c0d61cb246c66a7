"""A model repository of Triton from a detector's ONNX file.

    python -m triton_repository.make_repository FILE.onnx REPOSITORY [NAME]

It writes REPOSITORY/NAME/config.pbtxt and REPOSITORY/NAME/1/model.onnx. What the
configuration says of inputs and outputs is read from the file.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import onnx

TYPES = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}

MAX_BATCH = 64
WAIT = 5000
"""Microseconds that a request waits for others to share a batch with."""


def configuration(model: onnx.ModelProto, name: str) -> str:
    """Return the text of config.pbtxt.

    The first axis of everything must be the rows, of any number: Triton batches over
    it, and does not list it. What has no other axis is given one, and loses it again.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    parts = [
        f'name: "{name}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: {MAX_BATCH}\n',
        *(_tensor("input", value) for value in inputs),
        *(_tensor("output", value) for value in graph.output),
        f"dynamic_batching {{\n  max_queue_delay_microseconds: {WAIT}\n}}\n",
    ]
    return "".join(parts)


def _tensor(kind: str, value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    first, *rest = tensor.shape.dim
    if first.HasField("dim_value"):
        raise ValueError(
            f"{kind} {value.name!r} has {first.dim_value} rows, always: export it with "
            "a first axis of any size."
        )
    sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in rest]
    lines = [
        f'  name: "{value.name}"',
        f"  data_type: {TYPES[tensor.elem_type]}",
        f"  dims: [ {', '.join(map(str, sizes or [1]))} ]",
    ]
    if not sizes:
        lines.append("  reshape: { shape: [ ] }")
    return "\n".join([f"{kind} [", " {", *lines, " }", "]", ""])


def made_repository(file: Path, repository: Path, name: str) -> Path:
    """Return the model's folder in a repository, once it is written."""
    text = configuration(onnx.load(file, load_external_data=False), name)
    folder = repository / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return folder


if __name__ == "__main__":
    source, target, *named = sys.argv[1:]
    folder = made_repository(Path(source), Path(target), (*named, "detector")[0])
    print((folder / "config.pbtxt").read_text(encoding="utf-8"), end="")
