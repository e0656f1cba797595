"""What is wrong with a store, put right, as far as the store itself tells what is right.

Nothing that could be the only copy of something sound is deleted: what does not belong into the store, or is damaged,
stays beside its place under another name, ``48/948.npy.bad``. What is deleted is derived, or never was complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jamendo_mood.store.embedding_store import EmbeddingStore, PackedEmbeddings
from jamendo_mood.store.file_format import (
    FAILURES_NAME,
    INDEX_NAME,
    MANIFEST_NAME,
    PACKED_NAME,
    format_manifest,
    is_key,
    read_failures,
    write_failures,
)
from jamendo_mood.store.verification import ASIDE, Finding, OnProgress, Verification, verify_store
from jamendo_mood.util.files import abandoned, disk_errors, locked, write_atomically


@dataclass(frozen=True)
class Repair:
    """What became of a store.

    Attributes
    ----------
    done : tuple of (Finding, str)
        What was wrong, and what was done about it.
    left : Verification
        How the store is now.
    lost : tuple of str
        Tracks that were wrong and of which it has no embedding now.
    """

    done: tuple[tuple[Finding, str], ...]
    left: Verification
    lost: tuple[str, ...]


def repair_store(root: Path, progress: Callable[[], OnProgress] = lambda: lambda _done, _total: None) -> Repair:
    """Put right what is wrong with a store. Others may read it meanwhile, and write to it.

    Each kind of damage is mended in its turn, and the store looked at again: what mends one may show or mend another.

    Parameters
    ----------
    root : Path
    progress : callable
        Gives what is called in one look at the store; see `verify_store`.

    Raises
    ------
    UsageError
        There is no store.
    StoreError, DiskFullError
        Something cannot be written. What was mended before is mended.
    """
    done: list[tuple[Finding, str]] = []
    left = verify_store(root, progress())
    for kind, remedy in REMEDIES.items():
        found = [finding for finding in left.findings if finding.kind == kind]
        if found:
            done += zip(found, remedy(root, found), strict=True)
            left = verify_store(root, progress())
    wrong = {finding.name for finding, _ in done if finding.kind in _TAKES_OUT}
    # Not by way of the store: it may have no manifest, and none that can be found again.
    lost = sorted(key for key in wrong if is_key(key) and not (root / f"{key}.npy").is_file())
    return Repair(tuple(done), left, tuple(lost))


def _rewrite_manifest(root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        manifest = format_manifest(finding.detail)
        write_atomically(root / MANIFEST_NAME, lambda file, content=manifest: file.write(content))  # type: ignore[misc]
    return [f"written anew, for {finding.detail}" for finding in found]


def _restore(root: Path, found: list[Finding]) -> list[str]:
    packed, store = PackedEmbeddings(root), EmbeddingStore(root)
    for finding in found:
        if os.path.lexists(finding.path):
            _move_aside(finding.path)
        store.add(finding.name, packed[finding.name])
    return [f"restored from {PACKED_NAME}; its checksum fits"] * len(found)


def _set_aside(_root: Path, found: list[Finding]) -> list[str]:
    return [f"set aside as {_move_aside(finding.path).name}" for finding in found]


def _put_back(root: Path, found: list[Finding]) -> list[str]:
    """Move each to its own place, or aside if another is there that belongs there or comes first.

    Only where some lie in each other's places is one of them moved aside first, for a moment: what is killed in it
    leaves a sound embedding as ``.bad``, and `verify` counts it among the files that a repair has set aside.
    """
    by_place = {finding.path: finding for finding in found}
    told: dict[Path, str] = {}
    for first in found:
        chain: dict[Path, Finding] = {}  # each lies in the place of the one before
        following: Finding | None = first
        while following and following.path not in told and following.path not in chain:
            chain[following.path] = following
            following = by_place.get(_place_of(following, root))
        aside = _move_aside(following.path) if following and following.path in chain else None
        for path, finding in reversed(chain.items()):
            lies = aside if aside and following is finding else path
            told[path] = _move_to_place(finding, lies, root)
    return [told[finding.path] for finding in found]


def _move_to_place(finding: Finding, lies: Path, root: Path) -> str:
    place = _place_of(finding, root)
    if os.path.lexists(place):
        aside = _move_aside(lies) if lies == finding.path else lies
        return f"set aside as {aside.name}: {finding.detail!r} has an embedding"
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        lies.rename(place)
    return f"moved to {finding.detail!r}"


def _place_of(finding: Finding, root: Path) -> Path:
    return root / f"{finding.detail}.npy"


def _copy_in(_root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        with disk_errors(finding.path):
            content = finding.path.read_bytes()
        write_atomically(finding.path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return ["replaced by a copy of the file"] * len(found)


def _drop_packed(root: Path, found: list[Finding]) -> list[str]:
    aside = [_move_aside(path).name for name in (INDEX_NAME, PACKED_NAME) if os.path.lexists(path := root / name)]
    return [f"set aside as {' and '.join(aside)}; pack the store again"] * len(found)


def _rewrite_failures(root: Path, found: list[Finding]) -> list[str]:
    path = root / FAILURES_NAME
    try:
        with disk_errors(path):
            read_failures(path)
    except ValueError:  # no file, or one that is too long
        return [f"set aside as {_move_aside(path).name}"] * len(found)
    with disk_errors(path), locked(path):
        write_failures(path, read_failures(path)[0])
    return ["written anew, without these lines"] * len(found)


def _delete(_root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        with disk_errors(finding.path):
            finding.path.unlink(missing_ok=True)
    return ["deleted"] * len(found)


def _delete_drafts(_root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        with abandoned(finding.path) as dead, disk_errors(finding.path):
            if dead:
                finding.path.unlink(missing_ok=True)
    return ["deleted"] * len(found)


def _move_aside(path: Path) -> Path:
    number, aside = 1, path.with_name(path.name + ASIDE)
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}{ASIDE}-{number}")
    with disk_errors(path):
        path.rename(aside)
    return aside


REMEDIES: dict[str, Callable[[Path, list[Finding]], list[str]]] = {
    "manifest": _rewrite_manifest,
    "damaged": _set_aside,
    "stranger": _set_aside,
    "misplaced": _put_back,
    "restorable": _restore,
    "link": _copy_in,
    "packed": _drop_packed,
    "failures": _rewrite_failures,
    "cache": _delete,
    "draft": _delete_drafts,
}
"""By kind of finding, in the order in which they are mended: the store, all findings of the kind -> what was done."""

_TAKES_OUT = {"restorable", "damaged", "stranger", "misplaced"}
