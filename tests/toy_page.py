"""A stand-in for the browser's half of a page: it speaks to a session, and keeps what it is told."""

import threading


class ToyPage:
    """Takes the place of the way out of a widget's session."""

    def __init__(self, widget, monkeypatch):
        self.told, self.widget, self.session = [], widget, widget.session
        self._news = threading.Condition()
        monkeypatch.setattr(self.session, "_send", self._receive)

    def _receive(self, content, buffers=None):
        with self._news:
            self.told.append((content, list(buffers or [])))
            self._news.notify_all()

    def say(self, kind, *buffers, **content):
        self.session.receive({"type": kind, **content}, [memoryview(buffer) for buffer in buffers])

    def upload(self, name, content, identity="up", piece=400_000):
        self.say("begin", id=identity, name=name, size=len(content))
        for offset in range(0, len(content), piece):
            self.say("chunk", content[offset : offset + piece], id=identity, offset=offset)

    def all(self, kind, **wanted):
        """Messages of a kind, as (content, buffers)."""
        with self._news:
            return [one for one in self.told if {"type": kind, **wanted}.items() <= one[0].items()]

    def wait_for_two(self, kind):
        """All messages of a kind, once there are two of them."""
        with self._news:
            self._news.wait_for(lambda: len(self.all(kind)) >= 2, timeout=120)
        return self.all(kind)

    def wait_for(self, kind, **wanted):
        """The first message of a kind, waited for if need be."""
        with self._news:
            self._news.wait_for(lambda: self.all(kind, **wanted), timeout=120)
        return self.all(kind, **wanted)[0]
