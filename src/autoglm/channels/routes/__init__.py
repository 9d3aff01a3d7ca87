"""Decides whom an event reaches, by which channel, and what happens when nobody answers."""
