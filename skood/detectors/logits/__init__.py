"""Scores of the network's output."""
