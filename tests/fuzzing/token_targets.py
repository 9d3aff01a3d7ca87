"""Tokens, proofs and the passwords made of both."""

from auth.tokens.fuzz_targets import SEEDS, fuzz_token
from fuzzing.target import Target

TARGETS = (Target("token", fuzz_token, SEEDS, words=(b'"alg"', b'"Ed25519"', b'"kid"', b'"jwk"', b"eyJ", b".", b"~")),)
