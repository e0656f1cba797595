"""Every way in which a store can be damaged: found by `verify_store`, put right by `repair_store`.

Nothing is deleted that could be the only copy of a sound embedding: what is damaged or does not belong in the store
keeps its folder under another name, ``48/948.npy.bad``. What is deleted can be computed again, or never was complete.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jamendo_mood.embedders.registry import EmbedderSpec
from jamendo_mood.store import embedding_store
from jamendo_mood.store.embedding_store import FAILURES_NAME, INDEX_NAME, MANIFEST_NAME, PACKED_NAME, Entry
from jamendo_mood.util import files, plaintext
from jamendo_mood.util.errors import MoodError, StoreError, UsageError
from jamendo_mood.util.files import abandoned, disk_errors, write_atomically

ASIDE = ".bad"  #: the end of the names of files that a repair took out of the store; a number may follow

OnProgress = Callable[[int, int], None]

_SET_ASIDE = tuple(name + ASIDE for name in (PACKED_NAME, INDEX_NAME, FAILURES_NAME))


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a store."""

    kind: str  # a key of `REMEDIES`, or another word if there is no remedy
    name: str  # the key of a track, or else the path of a file below the store
    problem: str
    path: Path
    detail: Any = None  # what a remedy needs: the right spec, or the key of the track that an embedding is of


@dataclass(frozen=True)
class Verification:
    """What was found."""

    sound: int  # embeddings that are whole and in their place
    unchecked: int  # those of them that have no checksum, because an earlier version wrote them
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what is worth knowing, but not wrong


def verify_store(root: Path, on_progress: OnProgress = lambda _done, _total: None) -> Verification:
    """Check every file of a store; `on_progress` is called with the embeddings done and all of them, after each.

    Raises `UsageError` if there is no store: no folder, or neither a manifest nor an embedding says what made it.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no embedding store there (no such folder)")
    return _Survey(root).run(on_progress)


class _Survey:
    """One check of a store, and what it has found so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.whole: list[tuple[Path, str, Entry]] = []  # what can be read: the file, its key by its name, what it says
        self.packed: embedding_store.PackedEmbeddings | None = None
        self.others: Counter[str] = Counter()

    def run(self, on_progress: OnProgress) -> Verification:
        entries = sorted(path for path in self._list() if not self._is_other_file(path))
        spec, problem = self._read_manifest()
        if spec is not None and any(os.path.lexists(self.root / name) for name in (PACKED_NAME, INDEX_NAME)):
            try:
                self.packed = embedding_store.PackedEmbeddings(self.root)
            except MoodError as error:
                self._find("packed", PACKED_NAME, " ".join(str(error).split()))
        for done, path in enumerate(entries, start=1):
            self._check_entry(path, path.relative_to(self.root).as_posix().removesuffix(".npy"))
            on_progress(done, len(entries))
        sound = self._select_sound(self._decide_spec(spec, problem))
        self._check_packed()
        with self._finding(FAILURES_NAME, self.root / FAILURES_NAME, "failures"):
            if damaged := embedding_store.read_failures(self.root / FAILURES_NAME)[1]:
                raise ValueError(f"{plaintext.count(damaged, 'line')} damaged")
        unchecked = sum(entry.spec is None for entry in sound.values())
        return Verification(len(sound), unchecked, tuple(self.findings), tuple(self._notes(sound)))

    def _find(self, kind: str, name: str, problem: str, detail: Any = None, path: Path | None = None) -> None:
        self.findings.append(Finding(kind, name, problem, path or self.root / name, detail))

    def _list(self) -> Iterator[Path]:
        """All files."""

        def unlisted(error: OSError) -> None:
            name = Path(error.filename).relative_to(self.root).as_posix()
            self._find("unreadable", name, f"a folder that cannot be listed ({error.strerror})")

        for parent, folders, names in os.walk(self.root, onerror=unlisted):
            folders.sort()
            for path in (Path(parent, name) for name in folders):
                if path.is_symlink():
                    problem = f"a link to a folder, {path.resolve()}: what is in it is not listed"
                    self._find("linked folder", path.relative_to(self.root).as_posix(), problem)
            yield from (Path(parent, name) for name in sorted(names))

    def _is_other_file(self, path: Path) -> bool:
        """Whether a file is not an embedding; what is wrong with it is recorded."""
        name = path.relative_to(self.root).as_posix()
        if files.is_draft(path.name):
            with abandoned(path) as dead:
                if dead:
                    self._find("draft", name, "left by a writer that was killed")
                else:
                    self.others["that are being written, or another user's"] += 1
        elif name.startswith("library-") and name.endswith(".npz"):
            try:
                with files.open_file(path) as file:
                    files.read_npz(file, os.fstat(file.fileno()).st_size)
            except files.DAMAGES as error:
                self._find("cache", name, f"damaged ({files.brief(error)}); it can be computed again")
        elif name in embedding_store.NAMES:
            pass
        elif f".npy{ASIDE}" in path.name or path.name.startswith(_SET_ASIDE):
            self.others["set aside by a repair"] += 1
        elif not name.endswith(".npy") or any(part.startswith(".") for part in name.split("/")):
            self.others["that are not the store's"] += 1
        else:
            return False
        return True

    def _read_manifest(self) -> tuple[EmbedderSpec | None, str]:
        path = self.root / MANIFEST_NAME
        try:
            return embedding_store.read_manifest(path), ""
        except FileNotFoundError:
            return None, "missing"
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        except (StoreError, ValueError) as error:
            return None, str(error).removeprefix(f"{path}: ")

    @contextlib.contextmanager
    def _finding(self, name: str, path: Path, kind: str) -> Iterator[None]:
        """Record what is wrong with a file that cannot be read, or is damaged and then of that kind."""
        try:
            yield
        except OSError as error:
            self._find("unreadable", name, f"cannot be read ({error.strerror})", path=path)
        except ValueError as error:
            self._find(kind, name, files.brief(error), path=path)

    def _check_entry(self, path: Path, key: str) -> None:
        entry = None
        with self._finding(key, path, "damaged"):
            if path.is_symlink() and not path.exists():
                raise ValueError(f"a link to {os.path.realpath(path)}, where there is nothing")
            with contextlib.suppress(FileNotFoundError):  # it went away meanwhile
                entry = _read(path, key)
        if entry is None:
            return
        own = entry.key or key
        if path.is_symlink() and not path.resolve().is_relative_to(self.root.resolve()):
            self._find("link", key, f"a link that leads out of the store, to {path.resolve()}", path=path)
        if self.packed is not None and own in self.packed and self.packed[own].tobytes() != entry.frames.tobytes():
            self._find("packed", own, f"{PACKED_NAME} has other frames for it")
        # The frames of all entries together would not fit into memory.
        self.whole.append((path, key, replace(entry, key=own, frames=entry.frames[:0].copy())))

    def _decide_spec(self, claimed: EmbedderSpec | None, problem: str) -> EmbedderSpec | None:
        """What made the store: what its manifest says, or else what all embeddings say."""
        said = {entry.spec for *_, entry in self.whole if entry.spec is not None}
        agreed = next(iter(said)) if len(said) == 1 else None
        if claimed is None and not said:
            raise UsageError(
                f"{self.root}: no embedding store there, or beyond repair ({MANIFEST_NAME} is {problem}, and no "
                "embedding says what made it)"
            )
        if claimed is None:
            why = "" if agreed else f"; the embeddings are of {len(said)} embedders"
            self._find("manifest" if agreed else "no manifest", MANIFEST_NAME, problem + why, agreed)
        elif agreed and agreed != claimed and all(entry.spec for *_, entry in self.whole):
            self._find("manifest", MANIFEST_NAME, f"edited: {_differ(claimed, agreed)}, say all embeddings", agreed)
        else:
            return claimed
        return agreed

    def _select_sound(self, spec: EmbedderSpec | None) -> dict[str, Entry]:
        """The embeddings of this store that are in their place, by key; the others are recorded."""
        sound = {}
        for path, key, entry in self.whole:
            dim = entry.frames.shape[1]
            if spec and entry.spec and not spec.holds(entry.spec):
                problem = f"the embedding of another store: {_differ(entry.spec, spec)} as here"
                self._find("stranger", key, problem, path=path)
            elif spec and dim != spec.dim:
                self._find("damaged", key, f"{dim} numbers a frame, not {spec.dim}", path=path)
            elif entry.key != key:
                self._find("misplaced", key, f"the embedding of {entry.key!r}", entry.key, path)
            else:
                sound[key] = entry
        return sound

    def _check_packed(self) -> None:
        """Find what the packed file has and the store lacks: copies of damaged or lost entries, if checksums fit."""
        if self.packed is None:
            return
        damaged = {found.name: found for found in self.findings if found.kind == "damaged"}
        there = {entry.key for *_, entry in self.whole}
        for key in (key for key in self.packed if key not in there):
            remark = self.packed.remarks([key]).get(key, "")
            entry = embedding_store.encode_entry(key, self.packed[key], self.packed.spec, remark)
            if entry[-embedding_store.SEAL_BYTES :].decode().strip() != self.packed.sha256.get(key):
                self._find("packed", key, f"{PACKED_NAME} has it, the store does not")
            elif key in damaged:
                at = self.findings.index(damaged[key])
                problem = f"{damaged[key].problem}; {PACKED_NAME} has it"
                self.findings[at] = replace(damaged[key], kind="restorable", problem=problem)
            else:
                self._find("restorable", key, f"gone; {PACKED_NAME} has it", path=self.root / f"{key}.npy")

    def _notes(self, sound: Iterable[str]) -> Iterator[str]:
        for what, count in self.others.items():
            yield f"files {what}: {count}"
        remarked = {key: entry.remark for _, key, entry in self.whole if entry.remark}
        for remark, count in Counter(remarked.values()).items():
            named = next(key for key, found in remarked.items() if found == remark)
            yield f"{named}{f' and {count - 1} more' if count > 1 else ''}: {remark}"
        for key, count in Counter(unicodedata.normalize("NFC", key).casefold() for key in sound).items():
            if count > 1:
                yield f"{count} tracks are called {key!r} but for case: not every disk keeps them apart"


def _read(path: Path, key: str) -> Entry:
    """The embedding in a file; ValueError if it is damaged or not an embedding."""
    entry = embedding_store.read_entry(path)
    frames, own = entry.frames, entry.key or key
    if frames.dtype != np.float32 or frames.ndim != 2 or not frames.size:
        raise ValueError(f"not an embedding, but {frames.dtype} {frames.shape}")
    if not embedding_store.is_key(own):
        raise ValueError(f"{own!r} cannot be the key of a track")
    if entry.spec is not None and entry.spec.dim != frames.shape[1]:
        raise ValueError(f"{frames.shape[1]} numbers a frame, not {entry.spec.dim} as it says")
    if not np.isfinite(frames).all():
        raise ValueError("it has NaN or infinity in it")
    return entry


def _differ(one: EmbedderSpec, other: EmbedderSpec) -> str:
    pairs = zip(asdict(one).items(), asdict(other).values(), strict=True)
    return ", ".join(f"{name} {mine!r}, not {theirs!r}" for (name, mine), theirs in pairs if mine != theirs)


@dataclass(frozen=True)
class Repair:
    """The result of a repair."""

    done: tuple[tuple[Finding, str], ...]  # what was wrong, and what was done about it
    left: Verification  # of the store after it
    lost: tuple[str, ...]  # tracks that have no embedding any more


def repair_store(root: Path, progress: Callable[[], OnProgress] = lambda: lambda _done, _total: None) -> Repair:
    """Put right what is wrong with a store. Others may read and write it meanwhile.

    One kind of damage is repaired at a time, and the store checked again: that may uncover or repair another. Before
    each check, `progress` is called for the `on_progress` of `verify_store`. Raises `UsageError` if there is no store;
    `StoreError` or `DiskFullError` if something cannot be written. What was repaired before stays repaired.
    """
    done: list[tuple[Finding, str]] = []
    left = verify_store(root, progress())
    for kind, remedy in REMEDIES.items():
        found = [finding for finding in left.findings if finding.kind == kind]
        if found:
            done += zip(found, remedy(root, found), strict=True)
            left = verify_store(root, progress())
    wrong = {finding.name for finding, _ in done if finding.kind in _TAKES_OUT}
    # Without `EmbeddingStore`: the manifest may be lost for good.
    lost = sorted(key for key in wrong if embedding_store.is_key(key) and not (root / f"{key}.npy").is_file())
    return Repair(tuple(done), left, tuple(lost))


def _rewrite_manifest(root: Path, found: list[Finding]) -> list[str]:
    (finding,) = found
    write_atomically(root / MANIFEST_NAME, embedding_store.format_manifest(finding.detail))
    return [f"written anew, for {finding.detail}"]


def _restore(root: Path, found: list[Finding]) -> list[str]:
    packed, store = embedding_store.PackedEmbeddings(root), embedding_store.EmbeddingStore(root)
    for finding in found:
        if os.path.lexists(finding.path):
            _move_aside(finding.path)
        store.add(finding.name, packed[finding.name], packed.remarks([finding.name]).get(finding.name, ""))
    return [f"restored from {PACKED_NAME}; its checksum fits"] * len(found)


def _set_aside(_root: Path, found: list[Finding]) -> list[str]:
    return [f"set aside as {_move_aside(finding.path).name}" for finding in found]


def _put_back(root: Path, found: list[Finding]) -> list[str]:
    """Move each embedding to its own path, or aside if a rightful one is there or another came first.

    Those that lie where others of them belong are moved aside first, for a moment: if that is interrupted, a sound
    embedding stays as ``.bad``, among the files that `verify_store` counts as set aside.
    """
    homes = [root / f"{finding.detail}.npy" for finding in found]
    wanted = {*homes}
    places = [_move_aside(finding.path) if finding.path in wanted else finding.path for finding in found]
    done = []
    for finding, place, home in zip(found, places, homes, strict=True):
        if os.path.lexists(home):
            aside = _move_aside(place) if place == finding.path else place
            done.append(f"set aside as {aside.name}: {finding.detail!r} has an embedding")
            continue
        with disk_errors(home):
            home.parent.mkdir(parents=True, exist_ok=True)
            place.rename(home)
        done.append(f"moved to {finding.detail!r}")
    return done


def _copy_in(_root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        with disk_errors(finding.path):
            content = finding.path.read_bytes()
        write_atomically(finding.path, content)
    return ["replaced by a copy of the file"] * len(found)


def _drop_packed(root: Path, found: list[Finding]) -> list[str]:
    aside = [_move_aside(path).name for name in (INDEX_NAME, PACKED_NAME) if os.path.lexists(path := root / name)]
    return [f"set aside as {' and '.join(aside)}; pack the store again"] * len(found)


def _rewrite_failures(root: Path, found: list[Finding]) -> list[str]:
    path = root / FAILURES_NAME
    try:
        with disk_errors(path), files.locked(path):
            embedding_store.write_failures(path, embedding_store.read_failures(path)[0])
    except ValueError:  # not a file, or one that is too long
        return [f"set aside as {_move_aside(path).name}"] * len(found)
    return ["written anew, without these lines"] * len(found)


def _delete(_root: Path, found: list[Finding]) -> list[str]:
    for finding in found:
        with abandoned(finding.path) as dead, disk_errors(finding.path):
            if dead or finding.kind != "draft":  # a draft may have a writer again
                finding.path.unlink(missing_ok=True)
    return ["deleted"] * len(found)


def _move_aside(path: Path) -> Path:
    names = (f"{path.name}{ASIDE}{f'-{number}' if number > 1 else ''}" for number in itertools.count(1))
    aside = next(aside for name in names if not os.path.lexists(aside := path.with_name(name)))
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
    "draft": _delete,
}
"""By kind of finding, in the order of repair: the store and all findings of the kind -> what was done."""

_TAKES_OUT = {"restorable", "damaged", "stranger", "misplaced"}
