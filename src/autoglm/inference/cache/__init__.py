"""Keeps whole answers for a while and gives them to whoever asks exactly the same; never across tenants."""
