"""Data sets: one file each, and what they share: tracks, folds that no artist crosses, artists' names, ratings, leaks.

`registry` lists them. Only tables are read here, no audio; no data set is part of the package.
"""
