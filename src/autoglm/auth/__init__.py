"""Decides who may do what, with no network: keys and scopes."""
