"""Distillation: a student learns from its teacher, in closed form and in training."""
