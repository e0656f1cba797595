"""One network and one set of heads for many processes: they live in a server, others reach them through a socket.

The web page gives each visitor a process of its own, and none of them loads TensorFlow: what they call a tagger and an
embedder computes here, one batch at a time, so that visitors take turns. The socket is a file in a folder that only its
owner may enter, and both ends prove that they know a key before anything else is said.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pkgutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jamendo_mood.embedders.registry import Embedder, EmbedderSpec
from jamendo_mood.library.similarity import Library
from jamendo_mood.tagging.analysis import Limits
from jamendo_mood.training.model import Tagger
from jamendo_mood.util.errors import MoodError, UsageError

SETTINGS_VARIABLE = "JAMENDO_MOOD_SETTINGS"
"""The environment variable that names the settings file; the key itself stands in no command line and no variable."""

SETTINGS_NAME, SOCKET_NAME, TAGGER_NAME, LIBRARY_NAME = "settings.json", "network.sock", "tagger", "library"
LIBRARY_NAMES = "library.json"  # beside its arrays
MAX_SOCKET_PATH_BYTES = 100  # bytes; the system's limit is 108 on Linux, 104 on macOS
_KEY_BYTES = 32
_LIBRARY_ARRAYS, _LIBRARY_PREPARED = ("scores", "means", "va"), ("levels", "plane", "directions")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Address:
    """Where a server is, and the key that it wants to hear."""

    path: Path
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Offer:
    """What a page gives its visitors, besides tagger and embedder.

    Attributes
    ----------
    limits : Limits
        `page` is left open: it is what `tabs` says.
    tabs : tuple of (str, str)
        Of each page its title and its address.
    library : Library or None
    """

    limits: Limits = field(default_factory=Limits)
    tabs: tuple[tuple[str, str], ...] = ()
    library: Library | None = None


class ServerGoneError(MoodError):
    """The process that has the network does not answer."""


class SharedNetwork:
    """The network of an embedder that lives in another process: float32 (batch, ...) -> float32 (batch, dim)."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __call__(self, inputs: Array) -> Array:
        """Run it there."""
        return _ask(self._address, "network", inputs)


@dataclass(frozen=True, eq=False)
class SharedTagger(Tagger):
    """A tagger whose heads live in another process; all else is computed here."""

    address: Address = Address(Path(), b"")

    def _score_rows(self, rows: Sequence[Array]) -> Array:
        lengths = np.array([len(own) for own in rows], np.int64)
        return _ask(self.address, "heads", np.concatenate(rows), lengths)


@contextlib.contextmanager
def serve(tagger: Tagger, embedder: Embedder, folder: Path, offer: Offer | None = None) -> Iterator[Path]:
    """Serve a tagger and an embedder while the block runs, to whoever can read the settings file.

    Parameters
    ----------
    tagger : Tagger
        Its heads and the network are run once before anything is served.
    embedder : Embedder
        Its front end is a function of a module, or a `functools.partial` of one that gives it arguments by name: it
        runs in the other processes.
    folder : Path
        A private folder, for the settings file, the socket and a copy of the tagger.
    offer : Offer or None

    Yields
    ------
    Path
        The settings file, to be named by `SETTINGS_VARIABLE` in the other processes.

    Raises
    ------
    UsageError
        The tagger was trained on other embeddings, the front end is not a function of a module, or the folder's path is
        too long for a socket.
    """
    tagger.check_spec(embedder.spec)
    address = Address(folder / SOCKET_NAME, os.urandom(_KEY_BYTES))
    if len(os.fsencode(address.path)) > MAX_SOCKET_PATH_BYTES:
        raise UsageError(f"{address.path}: too long a path for a socket; set TMPDIR to a shorter one, such as /tmp")
    settings = _write_settings(tagger, embedder, address, offer or Offer())
    server = _Server(tagger, embedder, address)
    try:
        yield settings
    finally:
        server.stop()


def connect() -> tuple[SharedTagger, Embedder, Library | None, Limits]:
    """Tagger, embedder, library and limits of the server whose settings file the environment names.

    Raises
    ------
    ServerGoneError
        There is no server, or no longer.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    if not named:
        raise ServerGoneError(f"{SETTINGS_VARIABLE} is not set: that is done by `jamendo-mood web`")
    folder = Path(named).parent
    try:
        settings = json.loads(Path(named).read_text(encoding="utf-8"))
        tagger = Tagger.load(folder / TAGGER_NAME)
        library = _read_library(folder / LIBRARY_NAME) if settings["library"] else None
    except FileNotFoundError as error:
        raise ServerGoneError(_GONE) from error
    address = Address(folder / SOCKET_NAME, bytes.fromhex(settings["key"]))
    embedder = Embedder(
        spec=EmbedderSpec.from_json(settings["spec"]),
        frontend=functools.partial(pkgutil.resolve_name(settings["frontend"]), **settings["frontend_arguments"]),
        network=SharedNetwork(address),
        window_samples=settings["window_samples"],
        hop_samples=settings["hop_samples"],
    )
    limits = replace(Limits(**settings["limits"]), page=tuple((title, where) for title, where in settings["tabs"]))
    return _share(tagger, address), embedder, library, limits


def _share(tagger: Tagger, address: Address) -> SharedTagger:
    return SharedTagger(**{each.name: getattr(tagger, each.name) for each in fields(tagger)}, address=address)


def _write_settings(tagger: Tagger, embedder: Embedder, address: Address, offer: Offer) -> Path:
    folder = address.path.parent
    tagger.save(folder / TAGGER_NAME)  # a copy: the original may be trained again while this one is served
    if offer.library is not None:
        _write_library(offer.library, folder / LIBRARY_NAME)
    frontend: Any = embedder.frontend
    arguments: dict[str, Any] = {}
    if isinstance(frontend, functools.partial) and not frontend.args:
        frontend, arguments = frontend.func, frontend.keywords
    settings = {
        "key": address.key.hex(),
        "spec": asdict(embedder.spec),
        "frontend": _name_of(frontend),
        "frontend_arguments": arguments,
        "window_samples": embedder.window_samples,
        "hop_samples": embedder.hop_samples,
        "library": offer.library is not None,
        "limits": {"paths": False, "size_bytes": offer.limits.size_bytes, "length_s": offer.limits.length_s},
        "tabs": offer.tabs,
    }
    path = folder / SETTINGS_NAME
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def _write_library(library: Library, folder: Path) -> None:
    """Write a library with what it has prepared: of thousands of files it takes a second to open, a moment to read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (*_LIBRARY_ARRAYS, *_LIBRARY_PREPARED):
        if (array := getattr(library, name)) is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    texts = {name: getattr(library, name) for name in ("keys", "targets", "grades", "scale")}
    files = {key: os.fspath(path) for key, path in library.files.items()}
    (folder / LIBRARY_NAMES).write_text(json.dumps({**texts, "files": files}), encoding="utf-8")


def _read_library(folder: Path) -> Library:
    """The library; its arrays are mapped, so that all visitors' processes have them in memory once."""
    values = json.loads((folder / LIBRARY_NAMES).read_text(encoding="utf-8"))
    paths = {name: folder / f"{name}.npy" for name in (*_LIBRARY_ARRAYS, *_LIBRARY_PREPARED)}
    arrays: dict[str, Any] = {
        name: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if path.is_file() else None
        for name, path in paths.items()
    }
    library = Library(
        keys=tuple(values["keys"]),
        targets=tuple(values["targets"]),
        scores=arrays["scores"],
        means=arrays["means"],
        va=arrays["va"],
        grades=tuple(values["grades"]),
        files={key: Path(path) for key, path in values["files"].items()},
        scale=None if values["scale"] is None else (values["scale"][0], values["scale"][1]),
    )
    library.__dict__.update({name: arrays[name] for name in _LIBRARY_PREPARED})  # where cached properties keep theirs
    return library.prepare()


def _name_of(frontend: Callable[..., Any]) -> str:
    name = f"{frontend.__module__}:{getattr(frontend, '__qualname__', type(frontend).__name__)}"
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not frontend:
        raise UsageError(f"the embedder's front end {name} is not a function of a module: other processes can't run it")
    return name


class _Server:
    """Threads that answer: one that waits for callers, and one for each call. A lock lets one compute at a time."""

    def __init__(self, tagger: Tagger, embedder: Embedder, address: Address) -> None:
        self._tagger, self._embedder, self._address = tagger, embedder, address
        self._turn = threading.Lock()
        self._stopping = False
        # Once, so that TensorFlow is there and has its graphs before the first visitor waits for it.
        tagger.score([embedder.embed(np.zeros(embedder.window_samples, np.float32))])
        # Without a key: the listener would check callers one after the other, and one that is silent would block it.
        self._listener = Listener(str(address.path), "AF_UNIX", backlog=64)
        self._thread = threading.Thread(target=self._accept, name="sharing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more calls; those under way are finished."""
        self._stopping = True
        with contextlib.suppress(OSError):
            Client(str(self._address.path)).close()  # wakes the thread that waits
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping:
            connection = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        """Answer one call; a caller that is refused or gone before its answer is its own affair."""
        with connection, contextlib.suppress(AuthenticationError, OSError, EOFError):
            deliver_challenge(connection, self._address.key)
            answer_challenge(connection, self._address.key)
            what, *arrays = _receive(connection)
            try:
                with self._turn:
                    answer = self._compute(what, *arrays)
            except Exception as error:  # whatever it is, it must not look like the server's end
                _send(connection, f"{type(error).__name__}: {error}")
            else:
                _send(connection, "", answer)

    def _compute(self, what: str, *arrays: Array) -> Array:
        if what == "network":
            return self._embedder.network(*arrays)
        rows, lengths = arrays
        return self._tagger._score_rows(np.split(rows, np.cumsum(lengths)[:-1]))


_GONE = "the page's server has stopped; start it again with `jamendo-mood web`, then reload the page"


def _ask(address: Address, what: str, *arrays: Array) -> Array:
    """Call the server and wait for the turn and the answer; a call a connection, so there is no state to get wrong."""
    try:
        with Client(str(address.path), authkey=address.key) as connection:
            _send(connection, what, *arrays)
            error, *answer = _receive(connection)
    except AuthenticationError as refused:
        raise ServerGoneError("the page's server was restarted; reload the page") from refused
    except (OSError, EOFError) as gone:
        raise ServerGoneError(_GONE) from gone
    if error:
        raise MoodError(f"the page's server could not compute this ({error})")
    return np.asarray(answer[0])


def _send(connection: Connection, text: str, *arrays: Array) -> None:
    """A text and arrays, without pickle."""
    connection.send_bytes(json.dumps([text, len(arrays)]).encode())
    for array in arrays:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        connection.send_bytes(buffer.getbuffer())


def _receive(connection: Connection) -> list[Any]:
    text, count = json.loads(connection.recv_bytes())
    return [text, *(np.load(io.BytesIO(connection.recv_bytes()), allow_pickle=False) for _ in range(count))]
