"""What can be predicted: a `Task`, of one of the kinds in `KINDS`. Each kind is one file, and a line here.

`tags`, `classes` and `values` have loss, metrics, decisions, words and plots; `kind` is what a kind must say of itself,
with the calibration and the pictures that several share. `metrics` has the bootstrap, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from jamendo_mood.tasks import classes, tags, values
from jamendo_mood.tasks.kind import Kind
from jamendo_mood.util.errors import UsageError

KINDS: dict[str, Kind] = {"tags": tags.KIND, "classes": classes.KIND, "values": values.KIND}


@dataclass(frozen=True)
class Task:
    """What is to be predicted; it knows nothing of audio or networks."""

    name: str
    kind: str  #: a key of `KINDS`
    #: the names of the columns, in order: tags, classes, or what is measured, such as ``valence``
    targets: tuple[str, ...]
    scale: tuple[float, float] | None = None  #: of values: the least and the greatest that can be given
    rate_hz: float | None = None  #: of a dynamic annotation: labels a second; None for one label a track

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"task {self.name!r}: unknown kind {self.kind!r} (known: {', '.join(KINDS)})")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise UsageError(f"task {self.name!r}: its targets must be different names, at least one")
        if (self.scale is not None) != self.rules.on_scale or (self.scale and not self.scale[0] < self.scale[1]):
            raise UsageError(f"task {self.name!r}: values, and they alone, are on a scale from low to high")
        if self.rate_hz is not None and not (self.rules.on_scale and self.rate_hz > 0):
            raise UsageError(f"task {self.name!r}: values, and they alone, have a rate, which is positive")

    @property
    def rules(self) -> Kind:
        """What this kind of task says of itself."""
        return KINDS[self.kind]
