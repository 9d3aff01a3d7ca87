"""Draws all pictures of the docs: `python -m benchmarks.plots`."""

import sys

from benchmarks.plots import engine, frontier, scaling, scheduling

sys.exit(max(picture.main() for picture in (engine, frontier, scaling, scheduling)))
