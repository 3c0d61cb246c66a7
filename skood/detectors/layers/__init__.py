"""Detectors of one or several layers."""
