"""Counts tokens, requests and money for keys and tenants, and refuses what is over a budget (ADR 8)."""
