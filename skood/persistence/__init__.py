"""Estimators as folders of text and arrays: nothing in them is ever executed."""

from skood.persistence.api import load, save
from skood.persistence.errors import LoadError

__all__ = ["LoadError", "load", "save"]
