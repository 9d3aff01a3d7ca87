"""Speak to one instance each."""
