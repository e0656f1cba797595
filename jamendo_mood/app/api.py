"""The API: a song in, its moods out as JSON; tracks of a library that sound alike, and playlists by mood.

The answers of ``/tag`` have the shape of `tagging.prediction.to_document`, which the models here describe for OpenAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import threading
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from jamendo_mood import __version__
from jamendo_mood.app.session import MEDIA
from jamendo_mood.app.songs import Room, Song, SongQueue, Uploads
from jamendo_mood.library import similarity
from jamendo_mood.library.similarity import Found, Library, find_target
from jamendo_mood.tagging.analysis import Limits, explain_error
from jamendo_mood.tagging.emotions import find_emotion
from jamendo_mood.tagging.prediction import to_document
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import BusyError, CancelledError, DiskFullError, LimitError, MoodError, UsageError

PREFIX = "/api/v1"
PATIENCE_S, UPLOAD_S = 60.0, 900.0  # for the next bytes of an upload, and for all of it
DRAIN_S = 2.0
POLL_S = 0.25
MAX_TRACKS = 200

Count = Annotated[int, Query(ge=1, le=MAX_TRACKS, description="tracks to find")]


class Target(BaseModel):
    """A tag, a class or a value."""

    name: str
    score: float = Field(description="of tags and classes from 0 to 1; of values on `scale`")
    decided: bool | None = Field(description="whether it reaches its threshold, or is the class chosen")
    threshold: float | None = Field(description="of tags; null for one that is never decided")
    reliability: str = Field(description="good, fair, weak or unknown")


class PlaceInfo(BaseModel):
    """A place on the plane of valence and arousal, and what it is called."""

    model_config = ConfigDict(extra="allow")

    valence: float = Field(description="from -1, unpleasant, to 1, pleasant")
    arousal: float = Field(description="from -1, calm, to 1, excited")


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
    place: PlaceInfo | None
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


class TargetInfo(BaseModel):
    """What a tagger knows."""

    name: str
    threshold: float | None
    reliability: str


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


@dataclass(frozen=True)
class Service:
    """What a server offers: to pages and to callers of the API alike."""

    tagger: Tagger
    queue: SongQueue
    library: Library | None
    limits: Limits
    room: Room


def add_api(app: FastAPI, service: Service) -> None:
    """Add the API's addresses to an application."""
    tagger, library = service.tagger, service.library
    errors: dict[int | str, dict[str, Any]] = {
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
            async with _received(request, service, name) as path:
                song = await _tagged(request, service, name, path)
            if song.prediction is None:
                raise song.error or CancelledError(f"{name}: cancelled")
            prediction = replace(song.prediction, source=name)
            return JSONResponse(to_document([prediction], count=top, timeline=timeline))
        except MoodError as error:
            sentence, _ = explain_error(error, name, service.limits)
            busy = isinstance(error, BusyError | DiskFullError | UsageError)  # the last: a fault of this machine
            status = 503 if busy else 413 if isinstance(error, LimitError) else 422
            headers = {"Connection": "close", **({"Retry-After": "60"} if busy else {})}
            await _drain(request)
            return JSONResponse(to_document([], [(name, sentence)]), status, headers)

    @app.get(f"{PREFIX}/tagger", response_model=TaggerInfo)
    def describe_tagger() -> Any:
        """What the tagger knows, and how far each target can be relied on."""
        thresholds = [
            float(value) if tagger.task.kind == "tags" and value < float("inf") else None for value in tagger.thresholds
        ]
        targets = zip(tagger.task.targets, thresholds, tagger.grades, strict=True)
        return {
            "task": tagger.task.name,
            "kind": tagger.task.kind,
            "targets": [dict(zip(TargetInfo.model_fields, target, strict=True)) for target in targets],
            "embedder": str(tagger.spec),
            "record": {key: tagger.record[key] for key in ("citation", "licence", "graded_on") if key in tagger.record},
        }

    @app.get(f"{PREFIX}/health", response_model=Health)
    def health() -> Any:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__, "waiting": service.queue.waiting}

    if library is not None:
        _add_library(app, library)


def _add_library(app: FastAPI, library: Library) -> None:
    missing: dict[int | str, dict[str, Any]] = {
        400: {"description": "a parameter is not a number, or not exactly one of mood, emotion and at is given"},
        404: {"description": "no such track, mood or emotion"},
    }
    playlists: dict[int | str, dict[str, Any]] = {
        200: {"content": {MEDIA["m3u8"]: {}}, "description": "tracks, or a playlist"}
    }

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
            found = _search(library, mood, emotion, at, to, count)
            if format == "json":
                return _tracks(found)
            # Where the library lies is nobody's business: files are named from its folder on.
            text = similarity.to_m3u8(
                similarity.describe(found),
                lambda track: similarity.as_line(f"{track.key}{Path(track.file or '').suffix}"),
            )
            return PlainTextResponse(text, media_type=MEDIA["m3u8"])


@contextlib.contextmanager
def _found() -> Any:
    """A wrong key, name or number is the caller's mistake, and said in a line."""
    try:
        yield
    except (MoodError, ValueError) as error:
        raise HTTPException(404 if isinstance(error, MoodError) else 400, str(error)) from error


def _search(
    library: Library, mood: list[str], emotion: str | None, at: str | None, to: str | None, count: int
) -> list[Found]:
    if sum(map(bool, (mood, emotion, at))) != 1:
        raise ValueError("give one of mood, emotion and at")
    if mood:
        if to is not None:
            raise ValueError("a way to another place begins with at or emotion, not with mood")
        wanted = {}
        for each in mood:
            name, _, level = each.partition("=")
            wanted[library.targets[find_target(name, library.targets)]] = _numbers(level, f"mood={each}")[0]
        return library.by_moods(wanted, count)
    start = find_emotion(emotion).place if emotion else _point(str(at))
    return library.near(*start, count) if to is None else library.along([start, _point(to)], count)


def _point(text: str) -> tuple[float, float]:
    valence, arousal = _numbers(text, "valence,arousal", 2)
    return valence, arousal


def _numbers(text: str, what: str, count: int = 1) -> list[float]:
    with contextlib.suppress(ValueError):
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == count:
            return numbers
    raise ValueError(f"{what}: {text!r} is not {'a number' if count == 1 else f'{count} numbers'}")


def _tracks(found: list[Found]) -> dict[str, Any]:
    described = similarity.describe(found)
    return {
        "tracks": [
            {"key": track.key, "title": track.title, "artist": track.artist, "fit": track.fit, "tags": dict(track.tags)}
            for track in described
        ]
    }


@contextlib.asynccontextmanager
async def _received(request: Request, service: Service, name: str) -> AsyncIterator[Path]:
    """The body of a request as a file, which is deleted in the end; cut off where it is too large."""
    limits, offset, end = service.limits, 0, time.monotonic() + UPLOAD_S
    announced = request.headers.get("content-length", "")
    with contextlib.closing(Uploads(limits, service.room)) as uploads:
        uploads.begin("", name, int(announced) if announced.isdecimal() else limits.size_bytes)
        stream = request.stream()
        try:
            while piece := await asyncio.wait_for(anext(stream, b""), min(PATIENCE_S, end - time.monotonic())):
                limits.check_size(name, offset + len(piece))
                offset = uploads.add("", offset, piece)
        except (asyncio.TimeoutError, ClientDisconnect) as error:
            raise CancelledError(f"{name}: it did not arrive") from error
        yield uploads.path("")


async def _drain(request: Request) -> None:
    """Read what a caller still sends, for a moment: one whose connection is cut off does not read the answer."""
    end = time.monotonic() + DRAIN_S
    with contextlib.suppress(StopAsyncIteration, asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        stream = request.stream().__aiter__()
        while time.monotonic() < end:
            await asyncio.wait_for(stream.__anext__(), end - time.monotonic())


async def _tagged(request: Request, service: Service, name: str, path: Path) -> Song:
    """Queue a song and wait for its moods; it is cancelled if the caller goes."""
    done = threading.Event()
    song = Song(uuid.uuid4().hex, name, path, uploaded=True, tell=lambda *_, **__: None, done=done, detailed=False)
    service.queue.put(song)
    try:
        while not done.is_set():
            await asyncio.sleep(POLL_S if service.queue.waiting else POLL_S / 10)
            if await request.is_disconnected():
                raise CancelledError(f"{name}: the caller has gone")
    finally:
        song.cancelled.set()
    return song


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
