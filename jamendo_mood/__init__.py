"""Mood tags for music."""

__version__ = "0.1.0"
