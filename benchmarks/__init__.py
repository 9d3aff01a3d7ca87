"""One script per speed claim, each against what it is compared with, in the same run. See docs/performance.md."""
