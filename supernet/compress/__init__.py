"""Compression: a model made smaller after its architecture is chosen."""
