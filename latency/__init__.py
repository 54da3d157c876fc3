"""How long a BERT-like architecture takes on a device: measure, profile, predict.

Light on purpose: a device that only measures needs NumPy and its runtime, nothing else.
"""
