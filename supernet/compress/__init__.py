"""Compression: matrices as sums of products of smaller ones."""
