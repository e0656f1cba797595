"""The command line: each command is whole in one file, with its options, its output, what it says when interrupted.

Sisters share a file: `evaluate` has `compare`, `vote` and `score` too. Nothing imports from here.
"""
