"""Draws the pictures of the documentation from what the benchmarks saved."""
