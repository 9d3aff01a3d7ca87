"""Writes down who was let do what, so that nobody can change it unnoticed."""
