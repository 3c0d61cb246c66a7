"""Bridges to other libraries, one package each."""
