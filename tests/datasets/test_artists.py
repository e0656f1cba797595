"""One artist spelled in several ways is one artist."""

import pytest

from jamendo_mood.datasets.dataset import describe_credits, join_credits


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Blue, Anna", "Anna Blue"),
        ("Anna Blue", "ANNA BLUE & The Greens"),
        ("The Greens [2]", "Greens"),
        ("Ocker/Umbra", "Ocker-Umbra"),
        ("Rot (DE) and Ocker", "Ocker/Weiss"),
        ("Tan, Lee & His Orchestra", "lee tan"),
        ("O'Grau", "OGrau"),
        ("Björk Ünal ", "björk ünal"),
        ("Orchestra & Grau", "Grau"),
    ],
)
def test_credits_that_share_a_performer_are_joined(first, second):
    names = join_credits([first, "Somebody Else", second])
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Anna Blue", "Anna Green"),
        ("Blue", "Anna Blue"),  # one word may be another's second name
        ("The Band", "The Bend"),  # misspelt, or not
        ("Duke & his Orchestra", "Count and his Orchestra"),
        ("Rolands", "Roland's Sand & Co"),
        ("The [1]", "And"),  # no words are left of them
    ],
)
def test_other_credits_are_not(first, second):
    assert len({*join_credits([first, second])}) == 2


def test_a_chain_of_credits_is_one_artist():
    names = join_credits(["Rot", "Rot/Blau", "Gelb/Blau", "Gelb", "Lila"])
    assert names == ("gelb", "gelb", "gelb", "gelb", "lila")


def test_the_order_of_the_rows_does_not_matter():
    names = ["Zed & Anna Blue", "Blue, Anna", "Zed", "Yam"]
    assert join_credits(names[::-1]) == join_credits(names)[::-1]


def test_no_credit_stays_none_and_they_are_not_one_artist():
    assert join_credits(["", "  ", "Anna"]) == ("", "", "anna")
    assert join_credits([]) == ()


def test_a_user_is_told_what_was_joined():
    names = ["Anna", "ANNA", "", "Anna & Bob", "Bob", "Cid"]
    assert describe_credits(names, join_credits(names)) == (
        "1 tracks come without an artist: each counts as one of its own",
        "4 names are taken for 2 artists, as some share a performer",
    )
    assert describe_credits(["Anna", "anna"], join_credits(["Anna", "anna"])) == ()
