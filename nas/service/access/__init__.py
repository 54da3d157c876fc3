"""Who asks, who may see what, and who did what."""
