"""How good a tagger is. `experiment` trains, evaluates and cross-validates a task in one call each.

`evaluate` has scores with intervals, comparison, votes, MediaEval's files, and the page that shows them.
"""
