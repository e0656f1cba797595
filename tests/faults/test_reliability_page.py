"""The list of docs/reliability.md: a number that is measured again takes the place of the old one."""

from pathlib import Path

from reliability_page import HEADING, update_list, write_item

OLD = {"killed": write_item("killed", 5, "nothing lost"), "cut off": write_item("cut off", "3 (of 4)", "named")}
PAGE = "\n".join(["# A page", "", HEADING, "", *OLD.values(), "", "More.", ""])


def test_items_are_replaced_where_they_stand_and_new_ones_come_last():
    new, killed = write_item("new", 1, "x"), write_item("killed", 50, "nothing lost")
    changed = update_list(PAGE, {"new": new, "killed": killed})
    assert changed == PAGE.replace(OLD["killed"], killed).replace(OLD["cut off"], f"{OLD['cut off']}\n{new}")


def test_the_page_has_the_list():
    page = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
    text = page.read_text(encoding="utf-8")
    killed = "`kill -9` of an extraction, 1 process on one store"
    assert update_list(text, {}) == text
    assert update_list(text, {killed: "- there"}).count("\n") == text.count("\n")
