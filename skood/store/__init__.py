"""Features on disk, each computed once."""

from __future__ import annotations

from skood.store.feature_store import FeatureStore

__all__ = ["FeatureStore"]
