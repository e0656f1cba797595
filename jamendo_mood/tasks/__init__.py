"""What can be predicted: tags, classes and values, with their losses, metrics, calibration, decisions and intervals.

`kinds` has a row for each kind of task; everything that differs between kinds is in that row.
"""
