"""How good a tagger is. `experiment` trains, evaluates and cross-validates a task in one call each.

`evaluate` has scores with intervals, comparison, votes and MediaEval's files; `report` is the page.
"""
