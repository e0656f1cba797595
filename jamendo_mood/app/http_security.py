"""Who gets into the web page, and what every answer says: token, host, headers, how many connections."""

from __future__ import annotations

import hmac
import resource
from pathlib import Path
from typing import Any

import jinja2
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from tornado.httpserver import HTTPServer
from tornado.web import HTTPError
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler

TEMPLATES = Path(__file__).parent / "page"
RETRY_S = 15
_templates = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer. A page itself has a looser policy, see `page_policy`."""

MESSAGES = {
    403: (
        "Not this way",
        "Open the address that was printed when the page was started, with its token if it has one.",
    ),
    404: ("Nothing here", "There is no such page."),
    503: ("All places are taken", "All {places} places are taken. This page tries again by itself in {retry} seconds."),
}
"""Of a status: title and text of its page."""

MOST_CONNECTIONS = 256
"""Open at once, besides visitors' websockets; a browser opens six."""
FILES_PER_KERNEL = 32  # of this process: three websockets, eight sockets to the kernel behind each, and pipes
OTHER_FILES = 512
IDLE_S = 30.0
"""How long a request's headers may take to come, and a connection to be silent between two requests."""
BODY_S = 10.0
REQUEST_BYTES = 65_536  # of the headers, and of the body: of a browser that has many cookies for this host
UNREAD_BYTES = 16_000_000
"""Of what is written to one browser and not yet taken: one that asks on and on, and reads nothing, is left."""


def page_policy(nonce: str) -> str:
    """The Content-Security-Policy of a page: nothing comes from another host, and of scripts in the page only its own.

    JupyterLab puts styles into the page as it runs, and anywidget loads a widget's script from a blob.

    Parameters
    ----------
    nonce : str
        The word that the page's own scripts know: another one for each answer.
    """
    return (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
        "connect-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def set_headers(handler: Any) -> None:
    """Give an answer the headers of `SECURITY`, and do not tell what serves it."""
    handler.clear_header("Server")
    for name, value in SECURITY.items():
        handler.set_header(name, value)


def allow_files(kernels: int) -> None:
    """Let this process have as many files open as its connections and so many kernels take, if the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_FILES + MOST_CONNECTIONS + FILES_PER_KERNEL * kernels
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server(HTTPServer):  # type: ignore[misc]
    """An HTTP server that keeps few connections, and none for long; of too many the oldest has to go.

    Websockets are none of them: `visitors` and `message_rules` bound their number.
    """

    _order: dict[Any, None]

    def initialize(self, app: Any) -> None:
        """Serve an application; the name is Tornado's for what others call `__init__`."""
        self._order = {}
        super().initialize(
            app,
            max_header_size=REQUEST_BYTES,
            max_body_size=REQUEST_BYTES,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
        )

    def handle_stream(self, stream: Any, address: Any) -> None:
        """Take a connection."""
        if len(self._order) >= MOST_CONNECTIONS:
            oldest = next(iter(self._order))
            self._order.pop(oldest)
            oldest.close()
        self._order[stream] = None
        stream.max_write_buffer_size = UNREAD_BYTES
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        """A connection has ended, or has become a websocket."""
        self._order.pop(server_conn.stream, None)
        super().on_close(server_conn)


class TokenIdentity(IdentityProvider):  # type: ignore[misc]
    """Who knows the token may come in; there is no form, no password and nothing to change."""

    login_available = logout_available = False

    @property
    def auth_enabled(self) -> bool:
        """Whether there is a token."""
        return bool(self.token)

    def get_token(self, handler: Any) -> str | None:
        """The token, if the request knows it; compared in a time that tells nothing."""
        given = super().get_token(handler) or ""
        return str(self.token) if hmac.compare_digest(given.encode(), str(self.token).encode()) else None


class MessageHandler(JupyterHandler):  # type: ignore[misc]
    """Says what is wrong in a page of its own, and sends nobody to a login form."""

    def set_default_headers(self) -> None:
        """Those of every answer."""
        set_headers(self)

    def set_cors_headers(self) -> None:
        """Allow no other site to read anything, token or not."""

    async def prepare(self) -> None:
        """Check host and token: without them no method is called."""
        await super().prepare(_redirect_to_login=False)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Write the page for a status."""
        title, text = MESSAGES.get(status_code, ("Something went wrong", "Please reload the page."))
        retry_s = RETRY_S if status_code == 503 else None
        if retry_s is not None:
            self.set_header("Retry-After", str(retry_s))
        text = text.format(places=self.kernel_manager.places, retry=RETRY_S)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_templates.get_template("message.html.j2").render(title=title, text=text, retry_s=retry_s))


class NothingHandler(MessageHandler):
    """Everything that is no page."""

    def get(self) -> None:
        """There is none."""
        raise HTTPError(404)


class TemplateFiles(MessageHandler, TemplateStaticFileHandler):  # type: ignore[misc]
    """Styles and scripts of Voila's templates."""


class ScriptFiles(MessageHandler, MultiStaticFileHandler):  # type: ignore[misc]
    """Voila's own scripts."""


class ExtensionFiles(MessageHandler, FileFindHandler):  # type: ignore[misc]
    """Scripts of JupyterLab's extensions that show widgets."""
