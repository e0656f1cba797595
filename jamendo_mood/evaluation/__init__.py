"""How good a tagger is: metrics with intervals, comparison, cross-validation, votes, MediaEval's files, the report."""
