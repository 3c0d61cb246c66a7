"""A fitted pipeline as one torch module, and as an ONNX file with its certificate."""

from skood._lazy import lazy_names

_HOMES = {
    "Certificate": "skood.export.certificate",
    "DetectorModule": "skood.export.module",
    "export": "skood.export.files",
    "to_module": "skood.export.module",
    "verify": "skood.export.verification",
}

__all__ = ["Certificate", "DetectorModule", "export", "to_module", "verify"]

__getattr__ = lazy_names(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
