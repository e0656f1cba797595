"""The API: a song in, its moods out as JSON; tracks of a library that sound alike, and playlists by mood.

The answers of ``/tag`` have the shape of `tagging.prediction.to_document`, which the models here describe for OpenAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from jamendo_mood import __version__
from jamendo_mood.app.songs import Song, SongQueue, Upload, describe_track
from jamendo_mood.library import similarity, writing
from jamendo_mood.library.similarity import Found, Library
from jamendo_mood.tagging.analysis import explain_error
from jamendo_mood.tagging.emotions import PlaceDescription, find_emotion
from jamendo_mood.tagging.prediction import Prediction, to_document
from jamendo_mood.util.errors import BusyError, CancelledError, DiskFullError, LimitError, MoodError, UsageError

PREFIX = "/api/v1"
PATIENCE_S, UPLOAD_S = 60.0, 900.0  # for the next bytes of an upload, and for all of it
DRAIN_S = 2.0
POLL_S = 0.25
PLAYLIST_MEDIA = "audio/x-mpegurl"

Count = Annotated[int, Query(ge=1, le=200, description="tracks to find")]
Answers = dict[int | str, dict[str, Any]]


class TargetInfo(BaseModel):
    """A tag, a class or a value that a tagger knows."""

    name: str
    threshold: float | None = Field(description="of tags; null for one that is never decided")
    reliability: str = Field(description="good, fair, weak or unknown")


class Target(TargetInfo):
    """What a song has of it."""

    score: float = Field(description="of tags and classes from 0 to 1; of values on `scale`")
    decided: bool | None = Field(description="whether it reaches its threshold, or is the class chosen")


class Timeline(BaseModel):
    """Scores over time."""

    times_s: list[float] = Field(description="where each moment starts, in seconds")
    scores: dict[str, list[float]]


class Result(BaseModel):
    """The moods of a song."""

    file: str
    title: str | None
    artist: str | None
    duration_s: float
    remark: str | None = Field(description="what is wrong with its sound, such as that half of the file is missing")
    kind: str = Field(description="tags, classes or values")
    targets: list[Target]
    scale: tuple[float, float] | None = Field(description="of values: the least and the greatest")
    place: PlaceDescription | None
    timeline: Timeline | None


class Failure(BaseModel):
    """A file that could not be tagged, and why."""

    file: str
    error: str


class Document(BaseModel):
    """What is said of songs: here, by `jamendo-mood tag --format json`, and in the page's download."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    version: Literal[1] = Field(1, alias="schema")
    results: list[Result]
    errors: list[Failure]


class TaggerInfo(BaseModel):
    """The tagger that answers."""

    task: str
    kind: str
    targets: list[TargetInfo]
    embedder: str
    record: dict[str, Any] = Field(description="how it was made: data, licence, scores")


class TrackInfo(BaseModel):
    """A track of the library."""

    key: str
    title: str | None
    artist: str | None
    fit: float = Field(description="how well it fits, from 0 to 1")
    tags: dict[str, float]


class Tracks(BaseModel):
    """Tracks of the library, the best first."""

    tracks: list[TrackInfo]


class Health(BaseModel):
    """Whether it answers, and how much waits."""

    status: Literal["ok"]
    version: str
    waiting: int


def add_api(app: FastAPI, queue: SongQueue) -> None:
    """Add the API's addresses to an application."""
    errors: Answers = {
        413: {"model": Document, "description": "the file is too large, or the song too long"},
        422: {"model": Document, "description": "the file cannot be tagged: `errors` says why"},
        503: {"model": Document, "description": "too many songs are waiting: try again later"},
    }
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    body = {"requestBody": {"required": True, "content": content}}

    @app.post(f"{PREFIX}/tag", response_model=Document, responses=errors, openapi_extra=body)
    async def tag(
        request: Request,
        name: Annotated[str, Query(description="of the file, for messages", max_length=255)] = "song",
        top: Annotated[int | None, Query(ge=1, description="targets to give; all by default")] = None,
        timeline: Annotated[bool, Query(description="scores over time, too")] = False,
    ) -> Response:
        """Tag a song: the body is the content of an audio file, as it is."""
        try:
            async with _received(request, queue, name) as upload:
                prediction = await _tagged(request, queue, upload)
            return JSONResponse(to_document([replace(prediction, source=name)], count=top, timeline=timeline))
        except MoodError as error:
            sentence, _ = explain_error(error, name, queue.limits)
            busy = isinstance(error, BusyError | DiskFullError | UsageError)  # the last: a fault of this machine
            status = 503 if busy else 413 if isinstance(error, LimitError) else 422
            headers = {"Connection": "close", **({"Retry-After": "60"} if busy else {})}
            await _drain(request)
            return JSONResponse(to_document([], [(name, sentence)]), status, headers)

    @app.get(f"{PREFIX}/tagger", response_model=TaggerInfo)
    def describe_tagger() -> Any:
        """What the tagger knows, and how far each target can be relied on."""
        tagger = queue.tagger
        decided = tagger.task.rules.has_thresholds
        targets = zip(tagger.task.targets, tagger.thresholds.tolist(), tagger.grades, strict=True)
        return {
            "task": tagger.task.name,
            "kind": tagger.task.kind,
            "targets": [
                {"name": name, "threshold": value if decided and value < float("inf") else None, "reliability": grade}
                for name, value, grade in targets
            ],
            "embedder": str(tagger.spec),
            "record": {key: tagger.record[key] for key in ("citation", "licence", "graded_on") if key in tagger.record},
        }

    @app.get(f"{PREFIX}/health", response_model=Health)
    def health() -> Any:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__, "waiting": queue.waiting}

    if queue.library is not None:
        _add_library(app, queue.library)


def _add_library(app: FastAPI, library: Library) -> None:
    missing: Answers = {
        400: {"description": "a parameter is not a number, or not exactly one of mood, emotion and at is given"},
        404: {"description": "no such track, mood or emotion"},
    }
    playlists: Answers = {200: {"content": {PLAYLIST_MEDIA: {}}, "description": "tracks, or a playlist"}}

    @app.get(f"{PREFIX}/similar", response_model=Tracks, responses=missing)
    def similar(key: Annotated[str, Query(description="of a track of the library")], count: Count = 20) -> Any:
        """Tracks that sound like one of the library."""
        with _found():
            return _tracks(library.similar(key, count))

    @app.get(f"{PREFIX}/playlist", response_model=Tracks, responses={**missing, **playlists})
    def playlist(
        mood: Annotated[list[str], Query(description="NAME=LEVEL, from 0 to 1")] = [],  # noqa: B006 (FastAPI copies it)
        emotion: Annotated[str | None, Query(description="of Plutchik's wheel, such as serenity")] = None,
        at: Annotated[str | None, Query(description="valence,arousal, each from -1 to 1")] = None,
        to: Annotated[str | None, Query(description="valence,arousal where the playlist ends")] = None,
        count: Count = 20,
        format: Literal["json", "m3u8"] = "json",  # noqa: A002 (the address's word)
    ) -> Any:
        """Tracks by moods, by an emotion, or on a way over the plane of valence and arousal."""
        with _found():
            if sum(map(bool, (mood, emotion, at))) != 1:
                raise ValueError("give one of mood, emotion and at")
            if mood and to is not None:
                raise ValueError("a way to another place begins with at or emotion, not with mood")
            if mood:
                found = library.by_moods(dict(map(_level, mood)), count)
            else:
                start = find_emotion(emotion).place if emotion else _point(str(at))
                found = library.near(*start, count) if to is None else library.along([start, _point(to)], count)
        if format == "json":
            return _tracks(found)
        # Where the library lies is nobody's business: files are named from its folder on.
        named = similarity.describe(found)
        text = writing.to_m3u8(named, lambda each: writing.as_line(f"{each.key}{Path(each.file or '').suffix}"))
        return PlainTextResponse(text, media_type=PLAYLIST_MEDIA)


@contextlib.contextmanager
def _found() -> Iterator[None]:
    """A wrong key, name or number is the caller's mistake, and said in a line."""
    try:
        yield
    except (MoodError, ValueError) as error:
        raise HTTPException(404 if isinstance(error, MoodError) else 400, str(error)) from error


def _level(text: str) -> tuple[str, float]:
    name, _, level = text.partition("=")
    try:
        return name, float(level)
    except ValueError:
        raise ValueError(f"mood={text}: not NAME=LEVEL, such as sad=1") from None


def _point(text: str) -> tuple[float, float]:
    try:
        valence, arousal = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not valence,arousal, such as 0.5,-0.2") from None
    return valence, arousal


def _tracks(found: list[Found]) -> dict[str, Any]:
    return {"tracks": [{**describe_track(each), "tags": dict(each.tags)} for each in similarity.describe(found)]}


@contextlib.asynccontextmanager
async def _received(request: Request, queue: SongQueue, name: str) -> AsyncIterator[Upload]:
    """The body of a request as a file, which is deleted in the end; cut off where it is too large."""
    limits, end = queue.limits, time.monotonic() + UPLOAD_S
    announced = request.headers.get("content-length", "")
    upload = queue.uploads.begin(name, int(announced) if announced.isdecimal() else limits.size_bytes)
    with contextlib.closing(upload):
        stream = request.stream()
        try:
            while piece := await asyncio.wait_for(anext(stream, b""), min(PATIENCE_S, end - time.monotonic())):
                limits.check_size(name, upload.received + len(piece))
                upload.add(upload.received, piece)
        except (asyncio.TimeoutError, ClientDisconnect) as error:
            raise CancelledError(f"{name}: it did not arrive") from error
        yield upload


async def _drain(request: Request) -> None:
    """Read what a caller still sends, for a moment: one whose connection is cut off does not read the answer."""

    async def read() -> None:
        async for _ in request.stream():
            pass

    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        await asyncio.wait_for(read(), DRAIN_S)


async def _tagged(request: Request, queue: SongQueue, upload: Upload) -> Prediction:
    """Queue a song and wait for its moods; it is cancelled if the caller goes."""
    song = Song("", upload.name, upload.path, lambda *_, **__: None, upload, detailed=False)
    queue.put(song)
    try:
        while not song.done.is_set():
            await asyncio.sleep(POLL_S if queue.waiting else POLL_S / 10)
            if await request.is_disconnected():
                raise CancelledError(f"{upload.name}: the caller has gone")
    finally:
        song.cancelled.set()
    return song.result()


def describe_api(schema: dict[str, Any]) -> str:
    """The API as a page to read, without a script."""
    parts = []
    for address, methods in schema["paths"].items():
        for method, operation in methods.items():
            named = [(each["name"], each.get("description", "")) for each in operation.get("parameters", ())]
            answers = [(status, answer["description"]) for status, answer in operation["responses"].items()]
            parts.append(f"<h2><code>{method.upper()} {html.escape(address)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['description'])}</p>{_list(named)}<p>Answers:</p>{_list(answers)}")
    where = f"<a href='{PREFIX}/openapi.json'><code>{PREFIX}/openapi.json</code></a>"
    return f"<h1>API</h1><p>All of it, with the shapes of the answers, as OpenAPI: {where}</p>{''.join(parts)}"


def _list(rows: list[tuple[str, str]]) -> str:
    items = (f"<li><code>{html.escape(name)}</code> {html.escape(text)}</li>" for name, text in rows)
    return f"<ul>{''.join(items)}</ul>"
