import re

from jamendo_mood.gate import MESSAGES, SECURITY, TEMPLATES, page_policy


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
