"""The embedded store: one SQLite file in WAL mode with `synchronous=FULL`, and blobs as files beside it."""
