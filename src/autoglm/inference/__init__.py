"""Picks model and instance for each request, then streams the answer."""
