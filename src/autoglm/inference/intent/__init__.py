"""Understands what a request asks for: hints, rules, a classifier, or nothing."""
