"""Prometheus Alertmanager, both ways: messages become alerts and resolve them; its webhook becomes messages."""
