"""Devices elsewhere, and what they are asked to measure."""
