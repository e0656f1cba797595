"""Who made a track, where the data spell one artist in several ways."""

from __future__ import annotations

import re
from collections.abc import Sequence

_REMARKS = re.compile(r"\[.*?\]|\(.*?\)")
_JOINTS = re.compile(r"/|&|\band\b")
_WORDS = re.compile(r"[^\W_]+")
_FILLERS = frozenset({"the", "and", "his", "her", "their", "orchestra"})

Performer = frozenset[str]


def join_credits(names: Sequence[str]) -> tuple[str, ...]:
    """Give credits that share a performer the same name, so that no artist is in two parts of a data set.

    ``Costello, Elvis`` is in ``Elvis Costello & the Attractions``: what counts is the words of a performer, in any
    order, without their case, ``the`` and what is in brackets. Performers are told apart by ``/``, ``&`` and ``and``.
    To join too much does no harm but that the parts can be less even; a misspelt name is not found.

    Parameters
    ----------
    names : sequence of str (n,)
        A credit a track, empty where it is not known.

    Returns
    -------
    tuple of str (n,)
        The credit that comes first in the alphabet of those that were joined, stripped and in small letters; empty
        where it was.
    """
    spelled = sorted({folded for name in names if (folded := name.strip().casefold())})
    leader: dict[Performer | str, Performer | str] = {}

    def find(node: Performer | str) -> Performer | str:
        while (above := leader.setdefault(node, node)) != node:
            node = above
        return node

    for credit in spelled:
        for performer in _performers(credit):
            leader[find(performer)] = find(credit)
    named: dict[Performer | str, str] = {}
    for credit in spelled:
        named.setdefault(find(credit), credit)
    return tuple(named[find(folded)] if (folded := name.strip().casefold()) else "" for name in names)


def describe_credits(names: Sequence[str], joined: Sequence[str]) -> tuple[str, ...]:
    """What a user should know of credits and what `join_credits` made of them: lines for `Dataset.remarks`."""
    remarks = []
    if nameless := sum(not name for name in joined):
        remarks.append(f"{nameless} tracks come without an artist: each counts as one of its own")
    before, after = len({name.strip().casefold() for name in names} - {""}), len({*joined} - {""})
    if after < before:
        remarks.append(f"{before} names are taken for {after} artists, as some share a performer")
    return tuple(remarks)


def _performers(credit: str) -> set[Performer]:
    """The words of each performer of a credit, and those of the whole credit: ``AC/DC`` is ``AC-DC``."""
    plain = _REMARKS.sub(" ", credit).replace("'", "")
    words = (frozenset(_WORDS.findall(piece)) - _FILLERS for piece in (plain, *_JOINTS.split(plain)))
    return {performer for performer in words if performer}
