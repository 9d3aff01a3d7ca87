"""Checkable tasks in Chinese and English, and graders that score a reply to one as right or wrong."""
