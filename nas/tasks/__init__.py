"""Kinds of task: how labels are read and aligned, and predictions scored."""
