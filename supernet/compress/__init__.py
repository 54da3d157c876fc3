"""Compression: matrices become sums of products of smaller matrices."""
