"""Scores of the penultimate features and the network's last linear map."""
