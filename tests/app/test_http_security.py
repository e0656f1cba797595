"""Headers, connections and messages: what a browser may say."""

import json
import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from jamendo_mood.app import http_security
from jamendo_mood.app.http_security import (
    MESSAGES,
    SECURITY,
    TEMPLATES,
    ChannelsHandler,
    NonsenseError,
    Waiting,
    page_policy,
    read_request,
    split_message,
)


def test_the_page_asks_no_other_host_and_its_scripts_need_its_word():
    for path in TEMPLATES.iterdir():
        assert "://" not in path.read_text(encoding="utf-8")
    for policy in (SECURITY["Content-Security-Policy"], page_policy("word")):
        assert "http" not in policy
        assert "*" not in policy
    assert all(title and text for title, text in MESSAGES.values())
    policy = dict(part.strip().split(" ", 1) for part in page_policy("word").split(";"))
    assert policy["script-src"] == "'self' 'nonce-word' blob:"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert not re.search("script", SECURITY["Content-Security-Policy"])


@pytest.mark.parametrize(
    ("soft", "hard", "kernels", "allowed"),
    [
        (1024, 4096, 8, None),
        (1024, 4096, 100, (3968, 4096)),
        (1024, 2048, 100, (2048, 2048)),
        (1024, http_security.resource.RLIM_INFINITY, 100, (3968, http_security.resource.RLIM_INFINITY)),
    ],
)
def test_many_places_may_have_as_many_files(monkeypatch, soft, hard, kernels, allowed):
    limits = []
    monkeypatch.setattr(http_security.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(http_security.resource, "setrlimit", lambda _, pair: limits.append(pair))
    http_security.allow_files(kernels)
    assert limits == ([allowed] if allowed else [])


HEADER = {"msg_id": "1", "msg_type": "comm_msg", "session": "s"}
CUSTOM = {"comm_id": "c", "data": {"method": "custom", "content": {"type": "hello"}}}


def message(kind="comm_msg", content=CUSTOM, channel="shell", buffers=()):
    parts = [json.dumps(part).encode() for part in ({**HEADER, "msg_type": kind}, {}, {}, content)]
    return serialize_msg_to_ws_v1([*parts, *buffers], channel)


def test_a_message_is_split_as_jupyter_splits_it():
    whole = message(buffers=[b"a song", b""])
    channel, parts = deserialize_msg_from_ws_v1(whole)
    assert split_message(whole) == [channel.encode(), *parts]


@pytest.mark.parametrize("count", [0, 5, 17, 2**32, 2**64 - 1])
def test_a_number_of_parts_is_not_believed(count):
    with pytest.raises(NonsenseError):
        split_message(struct.pack("<Q", count) + message()[8:])


def test_whatever_comes_is_a_message_or_nonsense():
    rng, whole, refused = np.random.default_rng(0), message(buffers=[b"12"]), 0
    for _ in range(2_000):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        try:
            read_request(bytes(broken[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else broken))
        except NonsenseError:
            refused += 1
    assert 500 < refused < 2_000


@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        (True, message()),
        (True, message("kernel_info_request", {})),
        (True, message("comm_open", {"target_name": "jupyter.widget.control"})),
        (True, message(content={"data": {"method": "request_states"}})),
        (False, message(channel="control")),
        (False, message("execute_request", {"code": "1"})),
        (False, message("shutdown_request", {})),
        (False, message("comm_open", {"target_name": "jupyter.widget"})),
        (False, message("comm_open", {"target_name": ["jupyter.widget.control"]})),
        (False, message(content={"data": {"method": "update", "state": {}}})),
        (False, message(content={"data": {"method": ["custom"]}})),
        (False, message(content={"data": []})),
    ],
)
def test_only_what_a_page_says_is_passed_on(allowed, sent):
    assert read_request(sent) == ("1", allowed)


def test_much_text_is_nonsense_but_a_piece_of_a_song_is_not():
    assert read_request(message(buffers=[bytes(512 * 1024)])) == ("1", True)
    with pytest.raises(NonsenseError):
        read_request(message(content={"data": "x" * http_security.JSON_BYTES}))


@pytest.mark.parametrize("sent", [b"\xff" * 16, "{}", message(buffers=[b"x"])])
def test_nothing_is_made_of_a_message_to_a_browser_that_has_gone(sent):
    """Jupyter writes it in its old protocol then, of which Voila would read a number of parts without end."""
    assert ChannelsHandler.write_message(SimpleNamespace(ws_connection=None), sent, True) is None


def test_what_waits_for_a_browser_has_a_bound():
    waiting = Waiting()
    for _ in range(100):
        waiting.append(("iopub", [bytes(1_000_000)]))
    assert len(waiting) == http_security.UNREAD_BYTES // 1_000_000
