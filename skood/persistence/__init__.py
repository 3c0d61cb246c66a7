"""Estimators as folders, without pickle and without code."""

from skood.persistence.api import load, save
from skood.persistence.errors import LoadError

__all__ = ["LoadError", "load", "save"]
