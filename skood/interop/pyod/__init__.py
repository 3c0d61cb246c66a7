"""PyOD, both ways: its detectors on layer features, and ours where it wants its own."""

try:
    import pyod.models.base  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skood.interop.pyod needs PyOD: pip install 'skood[pyod]'."
    ) from error

from skood.interop.pyod.adapter import SkoodOD
from skood.interop.pyod.convert import to_pyod
from skood.interop.pyod.detector import PyODDetector
from skood.interop.pyod.encoder import SkoodEncoder

__all__ = ["PyODDetector", "SkoodEncoder", "SkoodOD", "to_pyod"]
