"""Decides how many local workers run: by demand, within cores and memory, and whose turn it is where not all fit."""
