"""Bring instances to life and keep them so."""
