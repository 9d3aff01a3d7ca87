"""Carries messages out: durable, in order where it must be, within the vendors' limits, each to a true end."""
