"""Tokens that a hub signs, and the proofs by which whoever shows one holds the key that it is bound to."""
