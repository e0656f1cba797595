"""What can be predicted: tags, classes, values. Each kind is one file: loss, metrics, decisions, words and plots.

`kind` is what a kind must say of itself, `task` lists them. `metrics`, `calibration` and `bootstrap` serve several.
"""
