"""Penultimate features reshaped before any score of the logits."""
