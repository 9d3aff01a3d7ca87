"""Proves who a person is, with no network: accounts, passwords, passkeys, sessions, and what roles may do."""
