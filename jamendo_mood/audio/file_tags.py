"""The tags inside audio files: which moods they name, which of those are ours, and a changed copy of a file.

A field is known by one name, ``MOOD`` say, and lies where players look for it:

- MP3, WAV, AIFF, DSF, TTA: ID3. ``TMOO`` in ID3v2.4, ``TXXX:MOOD`` in ID3v2.3, which stays that; others ``TXXX:NAME``
- FLAC, Ogg Vorbis, Opus, Speex: Vorbis comments, ``MOOD`` once for each value
- MP4 and M4A: ``----:com.apple.iTunes:MOOD``
- WMA: ``WM/Mood``
- WavPack, Musepack, Monkey's Audio: APEv2, ``Mood``

Beside a field with moods of ours stands another, ``JAMENDO_MOOD``, which says which these are. All else in a field is a
person's. mutagen (GPL-2.0-or-later, the extra ``files``) reads and writes them; no other module imports it.

References
----------
ID3v2.4 4.2.3 (TMOO, several values); ID3v2.3 4.2.2 (TXXX); Picard's table of tags (the other names).
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jamendo_mood.audio import ffmpeg
from jamendo_mood.util.errors import AudioError, UsageError
from jamendo_mood.util.files import brief

MOOD = "MOOD"
MARK = "JAMENDO_MOOD"
ELSEWHERE = "MOOD elsewhere"  #: what an ID3 tag has in the other of the two places: some programs write it there
SEPARATOR = "; "  #: between moods where a field has one value, as in ID3v2.3

Fields = dict[str, list[str]]  #: values by the name of their field; one that is not there has none

_PLACES = {"MP4Tags": "----:com.apple.iTunes:{}", "ASFTags": "{}"}
_MOOD_PLACES = {"ASFTags": "WM/Mood", "APEv2": "Mood"}
_V1_BYTES = 128  # of an ID3v1 tag, at the end of a file


class Mark(NamedTuple):
    """What `MARK` says of the moods that we wrote into a field."""

    tagger: str
    moods: tuple[str, ...]
    separator: str = SEPARATOR


class Moods(NamedTuple):
    """The moods that a file's tags name: those that a person wrote, and those that we did."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]


def read_moods(path: Path, field: str = MOOD) -> Moods:
    """The moods in a file's own tags; several in one value, as in ``calm; happy``, count one by one.

    Raises `AudioError` if the tags cannot be read, or the file is of a kind that has none that we know; `UsageError`
    where mutagen is missing.
    """
    fields = read_fields(path, [field, mark_of(field), ELSEWHERE])
    mark = read_mark(fields[mark_of(field)])
    theirs, removed = take_out(fields[field], mark)
    theirs += fields[ELSEWHERE] if field == MOOD else []
    moods = dict.fromkeys(mood for value in theirs for mood in split(value, mark.separator))
    return Moods(tuple(moods), tuple(mood for mood in mark.moods if mood not in removed))


def read_artist(path: Path) -> str:
    """The artists that a file's own tags name, with ``/`` between them; or nothing. Raises as `read_moods` does."""
    with _telling(path):
        import mutagen

        tags = getattr(mutagen.File(path, easy=True), "tags", None) or {}
        named = (tags.get(key) for key in ("artist", "Author", "TPE1"))  # ASF; ID3 in WAV and AIFF
        return next(("/".join(dict.fromkeys(map(str, artists))) for artists in named if artists), "")


def take_out(values: list[str], mark: Mark) -> tuple[list[str], list[str]]:
    """The values of a field without our moods, as a person wrote them, and moods of ours that a person has removed."""
    left, theirs = list(mark.moods), []
    for value in values:
        parts = [value] if value in left else split(value, mark.separator)
        rest = []
        for mood in parts:
            left.remove(mood) if mood in left else rest.append(mood)
        if rest:
            theirs.append(value if len(rest) == len(parts) else mark.separator.join(rest))
    return theirs, left


def mark_of(field: str) -> str:
    """The field that says which moods in another are ours."""
    return MARK if field == MOOD else f"{MARK}_{field}"


def read_mark(values: list[str]) -> Mark:
    """What a field `MARK` says; that nothing is ours if it says nothing that makes sense."""
    try:
        said = json.loads(values[0])
        return Mark(str(said["tagger"]), tuple(map(str, said["moods"])), str(said["separator"]))
    except (LookupError, TypeError, ValueError, RecursionError):
        return Mark("", ())


def write_mark(mark: Mark) -> list[str]:
    """The values of a field `MARK`."""
    return [json.dumps(mark._asdict(), ensure_ascii=False)]


def split(value: str, separator: str = SEPARATOR) -> list[str]:
    """The moods in one value of a field."""
    return [mood for part in re.split(f";|{re.escape(separator)}", value) if (mood := part.strip())]


def read_fields(path: Path, names: list[str]) -> Fields:
    """The values of some fields of a file. Raises as `read_moods` does."""
    with _telling(path):
        tags = _open(path).tags
        return {name: _get(tags, name) for name in names}


def has_one_value(path: Path) -> bool:
    """Whether fields of the file hold one value each: its tags are ID3v2.3."""
    with _telling(path):
        return _version(_open(path).tags) == 3


def change(path: Path, copy: Path, fields: Mapping[str, list[str]]) -> None:
    """Set fields in a copy of a file, which nobody else uses; one without values is removed.

    Raises as `read_moods` does, and `OSError` if the copy cannot be written.
    """
    with _telling(path):
        audio = _open(path)
        for name, values in fields.items():
            _set(audio.tags, name, values)
        if not _is_id3(audio.tags):
            audio.save(copy)
            return
        with copy.open("r+b") as file:
            file.seek(-min(_V1_BYTES, copy.stat().st_size), os.SEEK_END)
            v1 = file.read()
        if audio.tags or audio.tags.unknown_frames or v1.startswith(b"TAG"):
            audio.save(copy, v2_version=_version(audio.tags), v23_sep=None)
        else:
            audio.tags.delete(copy)
        if v1.startswith(b"TAG"):  # mutagen has brought it up to date
            with copy.open("r+b") as file:
                file.seek(-_V1_BYTES, os.SEEK_END)
                file.write(v1)


def check_same(path: Path, copy: Path, fields: Mapping[str, list[str]]) -> None:
    """Compare a file with its changed copy.

    Raises `AudioError` if the copy's fields are others than these, or anything else differs: its sound, by what ffmpeg
    finds to decode, another tag, a picture.
    """
    with _telling(path):
        import mutagen

        kind = type(mutagen.File(path))
        tags = _open(copy, kind).tags
        if any(_get(tags, name) != list(values) for name, values in fields.items()):
            raise AudioError(f"{path}: left as it is: the moods could not be read back")
        keys = {_key(tags, name).casefold() for name in fields}
        if _others(kind(path), keys) != _others(kind(copy), keys):
            raise AudioError(f"{path}: left as it is: other tags would have changed")
    if _sound(path) != _sound(copy):
        raise AudioError(f"{path}: left as it is: its sound would have changed")


def _others(audio: Any, keys: set[str]) -> list[str]:
    """All tags but some, and what else mutagen finds in a file, in words that can be compared."""
    blocks = [block for block in getattr(audio, "metadata_blocks", []) if type(block).__name__ not in _NOT_COMPARED]
    return [
        *sorted(f"{key}={value!r}" for key, value in (audio.tags or {}).items() if key.casefold() not in keys),
        *(f"{block.code} {block.write()!r}" for block in blocks),
        *(repr(getattr(audio.tags, name, [])) for name in ("unknown_frames", "_failed_atoms")),
    ]


_NOT_COMPARED = {"VCFLACDict", "Padding"}  # of FLAC's blocks: the tags, which are compared one by one


def _sound(path: Path) -> bytes:
    """The MD5 of a file's packets of sound."""
    done = ffmpeg.run("-i", str(path.absolute()), "-map", "0:a", "-c", "copy", "-f", "md5", "-")
    if done.status:
        raise AudioError(f"{path}: cannot be read to its end ({done.reason(path)})")
    return done.output


def check_mutagen() -> None:
    """`UsageError` if there is nothing to read and write tags with."""
    try:
        import mutagen  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("no mutagen to read and write tags: `pip install jamendo-mood[files]` brings it") from error


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Raise whatever mutagen raises, of a damaged file too, as an error that names the file."""
    check_mutagen()
    from mutagen import MutagenError

    try:
        yield
    except MutagenError as error:
        if error.args and isinstance(error.args[0], OSError):
            raise error.args[0] from None
        raise AudioError(f"{path}: its tags cannot be read ({brief(error)})") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error) as error:
        raise AudioError(f"{path}: its tags cannot be read ({brief(error)})") from error


def _open(path: Path, kind: Any = None) -> Any:
    """A file as mutagen knows it, with tags, if empty ones; of a kind, if its name does not say which."""
    import mutagen
    from mutagen import id3

    audio = (kind or mutagen.File)(path)
    if audio is None:
        raise AudioError(f"{path}: not a kind of file whose tags we write")
    if audio.tags is None:
        audio.add_tags()
    if not _is_id3(audio.tags):
        return audio
    version = audio.tags.version
    if version[:2] == (2, 2):
        raise AudioError(f"{path}: its tags are ID3v2.2, which can't be kept as they are: save it as 2.3 or 2.4 first")
    if version < (2, 0, 0):  # ID3v1 alone: what it says goes into the new tag, too, or players would see it no more
        return audio

    class Frames(dict[str, Any]):
        """Those to be parsed: all others are kept byte by byte."""

        def __contains__(self, name: object) -> bool:
            return name in id3.Frames  # mutagen asks to find out how sizes are written

    known = Frames(TMOO=id3.TMOO, TXXX=id3.TXXX)
    audio = type(audio)(path, known_frames=known, translate=False, load_v1=False)
    if audio.tags is None:
        audio.add_tags()
    return audio


def _is_id3(tags: Any) -> bool:
    from mutagen.id3 import ID3

    return isinstance(tags, ID3)


def _version(tags: Any) -> int:
    """3 for ID3v2.3, else 4."""
    return 3 if _is_id3(tags) and tags.version[:2] == (2, 3) else 4


def _key(tags: Any, name: str) -> str:
    """The key of a field in tags of some kind: as it is spelled there, if it is."""
    kind = type(tags).__name__
    if _is_id3(tags):
        places = ("TMOO", "TXXX:MOOD") if _version(tags) == 4 else ("TXXX:MOOD", "TMOO")
        key = {MOOD: places[0], ELSEWHERE: places[1]}.get(name, f"TXXX:{name}")
    elif name == MOOD and kind in _MOOD_PLACES:
        key = _MOOD_PLACES[kind]
    else:
        key = _PLACES.get(kind, "{}").format(name)
    return next((there for there in tags.keys() if there.casefold() == key.casefold()), key)  # noqa: SIM118


def _get(tags: Any, name: str) -> list[str]:
    """The values of a field."""
    value = tags.get(_key(tags, name), [])
    if _is_id3(tags):
        return [] if not value else [str(text) for text in value.text]
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in value]


def _set(tags: Any, name: str, values: list[str]) -> None:
    """Set a field; without values it is removed."""
    from mutagen import id3, mp4

    key = _key(tags, name)
    if key in tags:
        del tags[key]
    if not values:
        return
    if _is_id3(tags):
        encoding = id3.Encoding.UTF8 if _version(tags) == 4 else id3.Encoding.UTF16
        if key == "TMOO":
            tags.add(id3.TMOO(encoding, values))  # type: ignore[no-untyped-call]
        else:
            tags.add(id3.TXXX(encoding, key.partition(":")[2], values))  # type: ignore[no-untyped-call]
    elif isinstance(tags, mp4.MP4Tags):
        tags[key] = [mp4.MP4FreeForm(value.encode()) for value in values]  # type: ignore[no-untyped-call]
    else:
        tags[key] = values
