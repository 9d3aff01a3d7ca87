"""Chooses model and parameters for `auto`, learns from what came of it, and can say why."""
