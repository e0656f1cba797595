"""The table of docs/reliability.md."""

HEADING = "| what is done | how often | what comes of it |"


def update_table(text: str, rows: dict[str, str]) -> str:
    """The page with these rows: each in the place of the one it names, new ones at the table's end."""
    lines, new = text.splitlines(), dict(rows)
    start = lines.index(HEADING) + 2
    end = next((place for place in range(start, len(lines)) if not lines[place].startswith("|")), len(lines))
    kept = [new.pop(line.split(" | ")[0].removeprefix("| "), line) for line in lines[start:end]]
    return "\n".join([*lines[:start], *kept, *new.values(), *lines[end:]]) + "\n"
