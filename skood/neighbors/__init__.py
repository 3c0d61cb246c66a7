"""Exact search for the k-th nearest of many vectors, and rules for what it is asked."""

from skood.neighbors.bank import NeighborBank
from skood.neighbors.rules import check_sizes, default_neighbors, is_table

__all__ = ["NeighborBank", "check_sizes", "default_neighbors", "is_table"]
