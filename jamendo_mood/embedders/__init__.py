"""Sound -> rows of numbers: VGGish, YAMNet, log-mel and others; their weights found, checked and read.

`registry` lists them. Weights are read as data: no code of a downloaded file runs.
"""
