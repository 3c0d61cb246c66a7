"""Saved folders to be damaged and forged, and loads that are watched."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from networks import Convolutional, convolutional
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skood
from skood import KNN, LayerFeatureTransformer
from skood.files.digest import digest_of
from skood.persistence.about import about_text

ROWS = np.random.default_rng(0).normal(size=(40, 4))
NETWORK = Convolutional()
PARTS = ("arrays.safetensors", "estimator.skops", "network.safetensors")
FILES = ("about.json", *PARTS)
STORED = "skood.persistence.stored.made"

# What Python itself reports of the process while a folder is loaded ------------------

_events: list[tuple[str, tuple]] | None = None
SUSPECT = ("compile", "ctypes", "exec", "ftplib", "import", "marshal", "os.", "pickle")
SUSPECT += (
    "shutil",
    "socket",
    "subprocess",
    "open",
    "tempfile",
    "urllib",
    "webbrowser",
)
HARMLESS = ("os.listdir", "os.scandir", "os.walk")


def _hook(event, args):
    if _events is not None and event.startswith(SUSPECT) and event not in HARMLESS:
        _events.append((event, args))


sys.addaudithook(_hook)


def watched_load(path, **how):
    """Load, and assert that files in the folder were read and nothing else was done."""
    global _events
    _events = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skood.load(path, **how)
    finally:
        events, _events = _events, None
        for event, args in events:
            if event == "ctypes.cdata":
                continue  # the caller's weights, read where they are in memory
            if event == "compile" and args[1] == "<unknown>":
                continue  # ast.literal_eval, of a header of NumPy's
            assert event == "open", (event, args)
            assert Path(os.fsdecode(args[0])).parent == Path(path), args
            assert args[1] in ("r", "rb", None), args
            assert not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), args


# Folders -----------------------------------------------------------------------------


def pipeline():
    features = LayerFeatureTransformer(convolutional(), ["relu1", "logits"])
    images = np.random.default_rng(0).normal(size=(9, 3, 8, 8)).astype("float32")
    return Pipeline([("features", features), ("detector", KNN(3))]).fit(images)


def saved_pipeline(path):
    """Save a pipeline with a network, and import what loading it has to."""
    skood.save(pipeline(), path)
    skood.load(path, network=NETWORK)
    skood.load(path, network=Convolutional)
    return path


def saved_small(path):
    """Save a pipeline of matrices."""
    skood.save(make_pipeline(StandardScaler(), KNN(3)).fit(ROWS), path)
    skood.load(path)
    return path


def about_of(path):
    """Return the text of a folder but for its digests."""
    about = json.loads((path / "about.json").read_bytes())
    return {k: v for k, v in about.items() if k not in ("format", "schema", "digest")}


def sign(path, about=None):
    """Write a text with the right digests."""
    about = about_of(path) if about is None else about
    digests = {
        n: digest_of((path / n).read_bytes()) for n in PARTS if (path / n).exists()
    }
    if "files" in about:
        about = {**about, "files": digests}
    (path / "about.json").write_bytes(about_text(about))


def members_of(path):
    """Return what is in the skops file: its schema, and its other parts."""
    with ZipFile(path / "estimator.skops") as file:
        members = {name: file.read(name) for name in file.namelist()}
    return json.loads(members.pop("schema.json")), members


def zipped(schema, members=(), method=ZIP_STORED):
    """Return a skops file of any content."""
    text = schema if isinstance(schema, (str, bytes)) else json.dumps(schema)
    file = io.BytesIO()
    with warnings.catch_warnings(), ZipFile(file, "w", method) as made:
        warnings.simplefilter("ignore")  # of a name that is there twice
        made.writestr("schema.json", text)
        for name, data in dict(members).items():
            made.writestr(name, data)
    return file.getvalue()


def forge(path, schema, members=None):
    """Write a skops file of any content, and sign it."""
    known = members_of(path)[1] if members is None else members
    (path / "estimator.skops").write_bytes(zipped(schema, known))
    sign(path)


def state_of(schema):
    """Return the attributes of the outermost estimator."""
    return schema["content"]["content"]


def node(loader, name, **more):
    """Return a node of a skops file."""
    module, _, kind = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": kind, **more}


def scalar(value):
    """Return the node of a number, text or None."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def items(values, kind="list"):
    """Return the node of a list or tuple of nodes."""
    return node(f"{kind.title()}Node", f"builtins.{kind}", content=list(values))


def mapping(values, kind="builtins.dict"):
    """Return the node of a dictionary of nodes."""
    types = items([node("TypeNode", "builtins.str")] * len(values))
    return node("DictNode", kind, content=values, key_types=types)


def made(kind, *args):
    """Return the node of a value that skops does not hold."""
    content = items([scalar(kind), *args], "tuple")
    return node("ConstructorFromReduceNode", STORED, content=content)


def put(path, value, name="verbose"):
    """Forge a folder of which the outermost estimator has a certain attribute."""
    schema, members = members_of(path)
    state_of(schema)[name] = value
    forge(path, schema, members)
