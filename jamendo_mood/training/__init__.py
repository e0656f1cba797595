"""Stored embeddings -> examples -> heads -> a `Tagger`, which is saved, loaded and scores tracks.

Taggers that people have must stay loadable (`model`). `taggers/` has the one that comes with the package.
"""
