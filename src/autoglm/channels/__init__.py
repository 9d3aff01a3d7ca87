"""Carries envelopes in and out."""
