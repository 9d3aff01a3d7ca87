"""Webhooks out and in by the Standard Webhooks specification."""
