"""A detector's ONNX file with onnxruntime and NumPy alone.

    python onnxruntime_only/answer.py FILE.onnx ROWS.npy

Copy it: nothing of skood, torch or scikit-learn is imported.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime

ANSWERS = ("score", "p_value", "is_inlier")
BATCH = 64


def opened(path: str) -> onnxruntime.InferenceSession:
    """Return a session of a file, on the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def certificate(session: onnxruntime.InferenceSession) -> dict:
    """Return what the file says of how it was made and compared; {} if nothing."""
    texts = session.get_modelmeta().custom_metadata_map
    return json.loads(texts.get("skood.certificate", "{}"))


def answers(session: onnxruntime.InferenceSession, rows: np.ndarray) -> dict:
    """Return the score, p-value and flag of each row, batch by batch."""
    name = session.get_inputs()[0].name
    starts = range(0, len(rows), BATCH)
    parts = [session.run(ANSWERS, {name: rows[s : s + BATCH]}) for s in starts]
    columns = (np.concatenate(own) for own in zip(*parts, strict=True))
    return dict(zip(ANSWERS, columns, strict=True))


def main(path: str, rows: str) -> None:
    session = opened(path)
    known = certificate(session)
    print("detector:", known.get("detector"))
    print("compared on", known.get("parity", {}).get("rows"), "rows")
    found = answers(session, np.load(rows))
    for score, p_value, is_inlier in [*zip(*found.values(), strict=True)][15:25]:
        kind = "in-distribution" if is_inlier else "outlier"
        print(f"{score:9.3f}  p {p_value:.3f}  {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
