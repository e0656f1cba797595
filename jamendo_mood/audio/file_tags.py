"""The tags inside audio files: the moods they name, and which of those are ours; a changed copy of a file, compared.

A field is known by one name, ``MOOD`` say, and lies where players look for it:

- MP3, WAV, AIFF, DSF, TTA: ID3. ``TMOO`` in ID3v2.4, ``TXXX:MOOD`` in ID3v2.3, which stays that; others ``TXXX:NAME``
- FLAC, Ogg Vorbis, Opus, Speex: Vorbis comments, ``MOOD`` once for each value
- MP4: ``----:com.apple.iTunes:MOOD``; WMA: ``WM/Mood``; WavPack, Musepack, Monkey's Audio: APEv2, ``Mood``

Beside a field with moods of ours stands another, ``JAMENDO_MOOD``, which says which these are: the rest is a person's.
mutagen (GPL-2.0-or-later, the extra ``files``) reads and writes tags; no other module imports it.

References
----------
ID3v2.4, 4.2.3 (TMOO; several values); ID3v2.3, 4.2.2 (TXXX); MusicBrainz Picard, "Tag Mapping" (the other names).
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jamendo_mood.audio import ffmpeg
from jamendo_mood.util.errors import AudioError, need
from jamendo_mood.util.files import brief, is_disk_full

MOOD, MARK = "MOOD", "JAMENDO_MOOD"
ELSEWHERE = "MOOD elsewhere"  #: TXXX:MOOD of ID3v2.4 and TMOO of ID3v2.3, where some programs write moods
SEPARATOR = "; "  #: between moods where a field has one value, as in ID3v2.3

_MOOD_PLACES = {"ASFTags": "WM/Mood", "APEv2": "Mood"}
_NOT_COMPARED = {"VCFLACDict", "Padding"}  # of FLAC's blocks: tags are compared one by one
_WRONG = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)
_V1_BYTES = 128  # of an ID3v1 tag, at the end of a file

Fields = dict[str, list[str]]  #: values by the name of their field; one that is not there has none


class Moods(NamedTuple):
    """The moods that a file's tags name: those that a person wrote, and those that we did."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]


class Mark(NamedTuple):
    """What is said of the moods that we wrote into a field."""

    tagger: str
    moods: tuple[str, ...]
    separator: str = SEPARATOR

    @classmethod
    def read(cls, values: Sequence[str]) -> Mark:
        """From a field's values; nothing is ours if they make no sense."""
        try:
            said = json.loads(values[0])
            return cls(str(said["tagger"]), tuple(map(str, said["moods"])), str(said["separator"]))
        except (LookupError, TypeError, ValueError, RecursionError):
            return cls("", ())


def read_moods(path: Path, field: str = MOOD) -> Moods:
    """The moods in a file's own tags; several in one value, as in ``calm; happy``, count one by one.

    Raises `AudioError` if the tags cannot be read, or the file is of a kind that has none that we know; `UsageError`
    where mutagen is missing.
    """
    fields, _ = read_fields(path, [field, mark_of(field), ELSEWHERE])
    mark = Mark.read(fields[mark_of(field)])
    theirs, removed = take_out(fields[field], mark)
    values = theirs + (fields[ELSEWHERE] if field == MOOD else [])
    moods = dict.fromkeys(mood for value in values for mood in split(value, mark.separator))
    return Moods(tuple(moods), tuple(mood for mood in mark.moods if mood not in removed))


def read_artist(path: Path) -> str:
    """The artists that a file's own tags name, with ``/`` between them; or nothing. Raises as `read_moods` does."""
    with _telling(path):
        import mutagen

        tags = getattr(mutagen.File(path, easy=True), "tags", None) or {}
        named = (tags.get(key) for key in ("artist", "Author", "TPE1"))  # ASF; ID3 in WAV and AIFF
        return next(("/".join(dict.fromkeys(map(str, artists))) for artists in named if artists), "")


def take_out(values: list[str], mark: Mark) -> tuple[list[str], list[str]]:
    """A field's values without our moods, otherwise as a person wrote them; and our moods that a person has removed."""
    removed, theirs = list(mark.moods), []
    for value in values:
        parts, rest = [value] if value in removed else split(value, mark.separator), []
        for mood in parts:
            removed.remove(mood) if mood in removed else rest.append(mood)
        if rest:
            theirs.append(value if len(rest) == len(parts) else mark.separator.join(rest))
    return theirs, removed


def mark_of(field: str) -> str:
    """The field that says which moods in another are ours."""
    return MARK if field == MOOD else f"{MARK}_{field}"


def split(value: str, separator: str = SEPARATOR) -> list[str]:
    """The moods in one value of a field."""
    return [mood for part in re.split(f";|{re.escape(separator)}", value) if (mood := part.strip())]


def read_fields(path: Path, names: Sequence[str]) -> tuple[Fields, bool]:
    """The values of some fields, and whether a field holds one value there, as in ID3v2.3. Raises as `read_moods`."""
    with _telling(path):
        tags = _open(path).tags
        return {name: _get(tags, name) for name in names}, _id3_version(tags) == 3


def change(path: Path, copy: Path, fields: Mapping[str, Sequence[str]]) -> None:
    """Set fields in a copy of a file that nobody else uses, and compare: one without values is removed.

    Raises `AudioError` if the copy differs in anything else: in another tag, a picture, or its sound, by what ffmpeg
    finds to decode; `OSError` if there is no room for it.
    """
    with _telling(path):
        audio = _open(path)
        for name, values in fields.items():
            _set(audio.tags, name, list(values))
        _save(audio, copy)
        kind = type(audio)
        tags = _open(copy, kind).tags
        if any(_get(tags, name) != list(values) for name, values in fields.items()):
            raise AudioError(f"{path}: left as it is: the moods could not be read back")
        keys = {_key(tags, name).casefold() for name in fields}
        if _others(kind(path), keys) != _others(kind(copy), keys):
            raise AudioError(f"{path}: left as it is: other tags would have changed")
    if _hash_sound(path) != _hash_sound(copy):
        raise AudioError(f"{path}: left as it is: its sound would have changed")


def _save(audio: Any, copy: Path) -> None:
    if not (version := _id3_version(audio.tags)):
        audio.save(copy)
        return
    with copy.open("r+b") as file:
        file.seek(-min(_V1_BYTES, copy.stat().st_size), os.SEEK_END)
        end = file.read()
        has_v1 = end.startswith(b"TAG")
        if audio.tags or audio.tags.unknown_frames or has_v1:
            audio.save(copy, v2_version=version, v23_sep=None)
        else:
            audio.tags.delete(copy)  # as before there were tags
        if has_v1:  # mutagen has brought it up to date
            file.seek(-_V1_BYTES, os.SEEK_END)
            file.write(end)


def _others(audio: Any, keys: set[str]) -> list[str]:
    """All tags but some, and what else mutagen finds in a file, in words that can be compared."""
    blocks = [block for block in getattr(audio, "metadata_blocks", []) if type(block).__name__ not in _NOT_COMPARED]
    return [
        *sorted(f"{key}={value!r}" for key, value in (audio.tags or {}).items() if key.casefold() not in keys),
        *(f"{block.code} {block.write()!r}" for block in blocks),
        repr(getattr(audio.tags, "unknown_frames", [])),
    ]


def _hash_sound(path: Path) -> bytes:
    """The MD5 of a file's packets of sound."""
    done = ffmpeg.run("-i", str(path.absolute()), "-map", "0:a", "-c", "copy", "-f", "md5", "-")
    if done.status:
        raise AudioError(f"{path}: cannot be read to its end ({done.reason(path)})")
    return done.output


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Raise whatever mutagen raises, of a damaged file too, as an error that names the file."""
    need("reading and writing tags", "files", "mutagen")
    from mutagen import MutagenError

    try:
        yield
    except (MutagenError, OSError, *_WRONG) as error:
        cause = error.args[0] if error.args and isinstance(error.args[0], OSError) else error
        if is_disk_full(cause):
            raise cause from None
        why = (cause.strerror or "they end too soon") if isinstance(cause, OSError) else brief(cause)
        raise AudioError(f"{path}: its tags cannot be read or written ({why})") from error


def _open(path: Path, kind: Any = None) -> Any:
    """A file as mutagen knows it, with tags, if empty ones; of a kind, if its name does not say which."""
    import mutagen
    from mutagen import id3

    class Frames(dict[str, Any]):
        """Frames to be parsed: mutagen keeps all others byte by byte. By names it finds out how sizes are written."""

        def __contains__(self, name: object) -> bool:
            return name in id3.Frames

    audio = (kind or mutagen.File)(path)
    if audio is None:
        raise AudioError(f"{path}: not a kind of file whose tags we write")
    if audio.tags is None:
        audio.add_tags()
    elif _id3_version(audio.tags):
        if audio.tags.version[:2] == (2, 2):
            raise AudioError(f"{path}: left as it is: its tags are ID3v2.2; save it as ID3v2.3 or 2.4 first")
        if audio.tags.version > (2,):  # not ID3v1 alone, which goes into the new tag, or players would miss it
            known = Frames(TMOO=id3.TMOO, TXXX=id3.TXXX)
            audio = type(audio)(path, known_frames=known, translate=False, load_v1=False)
    return audio


def _id3_version(tags: Any) -> int:
    """3 for ID3v2.3, 4 for other ID3 tags, which become ID3v2.4; 0 for tags of other kinds."""
    from mutagen.id3 import ID3

    return 0 if not isinstance(tags, ID3) else 3 if tags.version[:2] == (2, 3) else 4


def _key(tags: Any, name: str) -> str:
    """The key of a field in tags of some kind: as it is spelled there, if it is."""
    kind, version = type(tags).__name__, _id3_version(tags)
    if version:
        places = ("TMOO", "TXXX:MOOD") if version == 4 else ("TXXX:MOOD", "TMOO")
        key = {MOOD: places[0], ELSEWHERE: places[1]}.get(name, f"TXXX:{name}")
    else:
        key = _MOOD_PLACES.get(kind, MOOD) if name == MOOD else name
        key = f"----:com.apple.iTunes:{key}" if kind == "MP4Tags" else key
    if key in tags:
        return key
    return next((there for there in tags.keys() if there.casefold() == key.casefold()), key)  # noqa: SIM118


def _get(tags: Any, name: str) -> list[str]:
    found = tags.get(_key(tags, name), [])
    values = getattr(found, "text", found) if _id3_version(tags) else found
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _set(tags: Any, name: str, values: list[str]) -> None:
    from mutagen import id3, mp4

    key, version = _key(tags, name), _id3_version(tags)
    if key in tags:
        del tags[key]
    if values and version:
        encoding = id3.Encoding.UTF8 if version == 4 else id3.Encoding.UTF16
        frame, _, desc = key.partition(":")
        kind = getattr(id3, frame)
        tags.add(kind(encoding=encoding, text=values, **({"desc": desc} if desc else {})))
    elif values:
        is_mp4 = isinstance(tags, mp4.MP4Tags)
        tags[key] = [mp4.MP4FreeForm(value.encode()) for value in values] if is_mp4 else values  # type: ignore[no-untyped-call]
