"""Mood tags for music: MP3s in, VGGish embeddings cached once, a multi-label head, tag scores out.

The names below are the public API. They are imported when first used: ``import jamendo_mood`` alone costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "EmbeddingStore": "store.embedding_store",
    "MoodError": "util.errors",
    "Prediction": "tagging.prediction",
    "Scores": "evaluation.evaluate",
    "TagWidget": "app.widget",
    "Tagger": "training.model",
    "TrainConfig": "training.fit",
    "evaluate": "evaluation.evaluate",
    "extract": "extraction.streaming",
    "find_audio": "audio.decoding",
    "fit": "training.fit",
    "load_dataset": "datasets",
    "load_embedder": "embedders.registry",
    "load_part": "training.data",
    "predict": "tagging.prediction",
}

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
