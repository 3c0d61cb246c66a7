"""Gaussian mixtures, fitted by chunks."""
