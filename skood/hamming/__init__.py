"""Binary patterns: packed bits, and exact search for the nearest of them."""

from skood.hamming.bank import PatternBank
from skood.hamming.packing import packed_bits, unpacked_bits
from skood.hamming.search import BACKENDS, check_backend, nearest_hamming

__all__ = [
    "BACKENDS",
    "PatternBank",
    "check_backend",
    "nearest_hamming",
    "packed_bits",
    "unpacked_bits",
]
