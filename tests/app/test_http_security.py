import re

import pytest

from jamendo_mood.app import http_security
from jamendo_mood.app.http_security import MESSAGES, SECURITY, TEMPLATES, page_policy


def test_the_page_asks_no_other_host():
    for path in TEMPLATES.iterdir():
        assert "://" not in path.read_text(encoding="utf-8")
    for policy in (SECURITY["Content-Security-Policy"], page_policy("word")):
        assert "http" not in policy
        assert "*" not in policy
    assert all(title and text for title, text in MESSAGES.values())


def test_scripts_in_the_page_need_its_word():
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
