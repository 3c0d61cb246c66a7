"""The served pipeline as one ONNX file with a certificate.

    python export_model.py FOLDER

FOLDER, of `make_model.py`, gets `detector.onnx` and `detector.onnx.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from make_model import DigitsNetwork

import skood
from skood.datasets import load_digits_ood
from skood.export import export


def main(folder: Path) -> None:
    pipeline = skood.load(folder / "detector", network=DigitsNetwork)
    rows = load_digits_ood().X_test  # seen by neither the network nor the detector
    certificate = export(pipeline, folder / "detector.onnx", rows[:2], rows)
    print(certificate.parity)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
