"""The list of docs/reliability.md."""

HEADING = "## What is done, how often, and what comes of it"


def write_item(done: str, times: object, result: str) -> str:
    """What was done, which names the item, how often, and what was measured."""
    return f"- **{done}** ({times}): {result}"


def update_list(text: str, items: dict[str, str]) -> str:
    """The page with these items: each in the place of the one it names, new ones at the list's end."""
    lines, new = text.splitlines(), dict(items)
    start = lines.index(HEADING) + 2
    end = next((place for place in range(start, len(lines)) if not lines[place].startswith("- ")), len(lines))
    kept = [new.pop(line.split("** (")[0].removeprefix("- **"), line) for line in lines[start:end]]
    return "\n".join([*lines[:start], *kept, *new.values(), *lines[end:]]) + "\n"
