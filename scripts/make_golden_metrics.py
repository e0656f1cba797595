"""Make tests/golden/metrics.json: figures of small cases, computed from the definitions in plain Python.

Nothing of the package or of scikit-learn is used, so the golden values are an independent opinion:

- average precision: walk down the distinct scores; add precision times the step in recall;
- ROC-AUC: the share of pairs of a positive and a negative in which the positive scores higher, a tie counting half;
- hit@k: the share of the examples with a tag in which fewer than k wrong tags score as high as the best right one.
"""

import json
import random
from pathlib import Path

OUT = Path(__file__).parents[1] / "tests" / "golden" / "metrics.json"


def average_precision(truth, scores):
    total, precision_steps, recalled = sum(truth), 0.0, 0
    for threshold in sorted(set(scores), reverse=True):
        taken = [t for t, s in zip(truth, scores, strict=True) if s >= threshold]
        precision_steps += (sum(taken) - recalled) / total * sum(taken) / len(taken)
        recalled = sum(taken)
    return precision_steps


def roc_auc(truth, scores):
    positives = [s for t, s in zip(truth, scores, strict=True) if t]
    negatives = [s for t, s in zip(truth, scores, strict=True) if not t]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def precision_recall_f(truth, decided):
    hits = sum(t and d for t, d in zip(truth, decided, strict=True))
    precision = hits / sum(decided) if any(decided) else 0.0
    recall = hits / sum(truth) if any(truth) else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


def hit_rate(truth, scores, count):
    hits = []
    for truths, row in zip(truth, scores, strict=True):
        right = [score for true, score in zip(truths, row, strict=True) if true]
        if right:
            wrong = [score for true, score in zip(truths, row, strict=True) if not true]
            hits.append(sum(score >= max(right) for score in wrong) < count)
    return sum(hits) / len(hits)


def figures(truth, scores, decisions):
    columns = [list(column) for column in zip(*truth, strict=True)]
    usable = [number for number, column in enumerate(columns) if 0 < sum(column) < len(column)]
    score_columns = [list(column) for column in zip(*scores, strict=True)]
    decided_columns = [list(column) for column in zip(*decisions, strict=True)]
    per_target = [precision_recall_f(t, d) for t, d in zip(columns, decided_columns, strict=True)]
    flat_truth, flat_scores = sum(truth, []), sum(scores, [])  # noqa: RUF017
    micro = precision_recall_f(flat_truth, sum(decisions, []))  # noqa: RUF017
    results = {
        "PR-AUC-macro": sum(average_precision(columns[n], score_columns[n]) for n in usable) / len(usable),
        "ROC-AUC-macro": sum(roc_auc(columns[n], score_columns[n]) for n in usable) / len(usable),
        "PR-AUC-micro": average_precision(flat_truth, flat_scores),
        "ROC-AUC-micro": roc_auc(flat_truth, flat_scores),
        "prior-macro": sum(sum(columns[n]) / len(columns[n]) for n in usable) / len(usable),
    }
    for count in (1, 3, 5):
        results[f"hit@{count}"] = hit_rate(truth, scores, count)
    for place, name in enumerate(("precision", "recall", "F-score")):
        results[f"{name}-macro"] = sum(row[place] for row in per_target) / len(per_target)
        results[f"{name}-micro"] = micro[place]
    return results


def make_cases():
    generator = random.Random(20_251)
    for rows, tags, levels in ((12, 3, 1000), (40, 5, 1000), (40, 5, 4), (7, 2, 3), (60, 8, 20)):
        truth = [[int(generator.random() < 0.3) for _ in range(tags)] for _ in range(rows)]
        truth[0], truth[1] = [1] * tags, [0] * tags
        scores = [[generator.randrange(levels) / levels for _ in range(tags)] for _ in range(rows)]
        yield f"random, {rows} x {tags}, {levels} levels", truth, scores
    yield "a tag that none has and one that all have", [[1, 0, 1], [0, 0, 1], [1, 0, 1]], [[0.9, 0.1, 0.5]] * 3
    yield "all scores alike", [[1, 0], [0, 1], [0, 0]], [[0.5, 0.5]] * 3
    yield "every score wrong, one tag", [[1], [0], [0]], [[0.1], [0.5], [0.9]]
    yield "every score right, one tag", [[1], [1], [0]], [[0.9], [0.5], [0.1]]
    yield "scores beyond 0 and 1", [[1, 0], [0, 1], [1, 1], [0, 0]], [[12, -3], [-40, 2], [0.5, -1], [7, -2.5]]


def make_golden():
    golden = []
    for name, truth, scores in make_cases():
        decisions = [[int(score >= 0.5) for score in row] for row in scores]
        case = {"name": name, "truth": truth, "scores": scores, "decisions": decisions}
        golden.append({**case, "figures": figures(truth, scores, decisions)})
    return golden


if __name__ == "__main__":
    OUT.write_text(json.dumps(make_golden()) + "\n")
