"""The table of docs/reliability.md: a figure that is measured again takes the place of the old one."""

from reliability_page import HEADING, update_table

PAGE = f"# A page\n\n{HEADING}\n|---|---|---|\n| killed | 5 | nothing lost |\n| cut off | 3 | named |\n\nMore.\n"


def test_rows_are_replaced_where_they_stand_and_new_ones_come_last():
    changed = update_table(PAGE, {"new": "| new | 1 | x |", "killed": "| killed | 50 | nothing lost |"})
    assert changed == PAGE.replace("killed | 5 ", "killed | 50 ").replace("named |\n", "named |\n| new | 1 | x |\n")
