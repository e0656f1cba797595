"""`web`: the page where anybody can upload a song and see its moods."""

from __future__ import annotations

import argparse
from pathlib import Path

from jamendo_mood.cli import shared
from jamendo_mood.cli.shared import DONE, Command
from jamendo_mood.util.errors import UsageError


def add_web(parser: argparse.ArgumentParser) -> None:
    """Options of `web`."""
    parser.add_argument("--tagger", type=Path, metavar="DIR", help="folder `train` wrote (default: 7 moods, built in)")
    shared.add_weights(parser)
    parser.add_argument("--store", type=Path, metavar="DIR", help="embeddings of a library, to find music in")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="the folder that was extracted, to play its music")
    parser.add_argument("--port", type=shared.whole, default=8866, metavar="N", help="default 8866; 0: any free one")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1; 0.0.0.0 serves others too, with a token"
    )
    for name, default, what in (
        ("--kernels", 8, "visitors at the same time"),
        ("--max-mb", 200, "the largest upload"),
        ("--max-minutes", 120, "the longest song"),
        ("--idle-minutes", 20, "until the place of an idle visitor is given to others"),
    ):
        parser.add_argument(name, type=shared.positive, default=default, metavar="N", help=f"{what} ({default})")
    parser.add_argument(
        "--warm", type=shared.whole, default=1, metavar="N", help="kernels kept ready, of each page (default 1)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")


def web(arguments: argparse.Namespace) -> int:
    """Serve the notebooks as a web page."""
    from jamendo_mood.embedders.registry import EmbedderOptions, load_embedder
    from jamendo_mood.store.embedding_store import EmbeddingStore
    from jamendo_mood.tagging.analysis import MEGABYTE, Limits

    try:
        from jamendo_mood.app.web import WebConfig, run_web
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        raise UsageError(f"the web page needs {name}: `pip install jamendo-mood[web]` brings it") from error
    if arguments.audio is not None and arguments.store is None:
        raise UsageError("--audio is the music of a library: give its embeddings with --store DIR")
    tagger = shared.load_tagger(arguments)
    library = None
    if arguments.store is not None:
        store = EmbeddingStore(arguments.store)
        tagger.check_spec(store.spec)
        library = shared.open_library(arguments, store, tagger)
    config = WebConfig(
        host=arguments.host,
        port=arguments.port,
        kernels=arguments.kernels,
        warm=arguments.warm,
        idle_s=60.0 * arguments.idle_minutes,
        limits=Limits(arguments.max_mb * MEGABYTE, 60.0 * arguments.max_minutes, paths=False),
        browser=not arguments.no_browser,
    )
    run_web(tagger, load_embedder(tagger.spec, EmbedderOptions.of(arguments)), library, config)
    return DONE


COMMANDS = {
    "web": Command(add_web, web, "Serve a page where anybody can upload a song and see its moods."),
}
