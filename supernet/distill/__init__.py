"""Further distillation: what a student learns from its teacher after it is extracted."""
