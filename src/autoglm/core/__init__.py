"""The words all parts share: envelope, address, ids, clock, errors and ports."""
