"""Searches: what may be asked for, how they move on, and what is told of them."""
