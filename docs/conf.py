"""The documentation site: `make docs` builds it into build/docs, and fails on any warning.

Nothing is kept by hand that the package knows: the options of the commands come from their parsers (sphinx-argparse),
and a page for each room from what is in its folder.
"""

import importlib
import pkgutil
import re
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

import jamendo_mood

project = "jamendo-mood"
author = "the jamendo-mood authors"
version = release = jamendo_mood.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxarg.ext"]
myst_heading_anchors = 4
smartquotes = False  # they would make a dash of the two in --store
default_role = "py:obj"  # single backticks: a link where the name is known, else the name
highlight_language = "none"

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "jamendo-mood"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

API = Path(__file__).parent / "api"


def write_api_pages(*_: object) -> None:
    """A page for each room of the package, with all its modules, and one that lists the public names."""
    rooms = [module.name for module in pkgutil.iter_modules(jamendo_mood.__path__) if module.ispkg]
    pages = {room: _describe_room(room) for room in rooms} | {"index": _describe_public(rooms)}
    API.mkdir(exist_ok=True)
    for path in API.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = API / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx reads again what is new
            path.write_text(text, encoding="utf-8")


def _describe_room(room: str) -> str:
    package = f"jamendo_mood.{room}"
    modules = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    parts = [_title(room, "="), f".. automodule:: {package}\n"]
    for module in modules:
        parts += [_title(f"{room}.{module}", "-"), f".. automodule:: {package}.{module}\n"]
    return "\n".join(parts)


def _describe_public(rooms: list[str]) -> str:
    parts = [
        _title("Python API", "="),
        "What ``from jamendo_mood import ...`` gives; the names that stay. Each comes from one of the rooms below,",
        "whose other names may change from version to version.\n",
    ]
    for name in jamendo_mood.__all__:
        public = getattr(jamendo_mood, name)
        first_line = public.__doc__.strip().splitlines()[0]
        parts.append(f":py:obj:`~{public.__module__}.{name}`\n    {first_line}\n")
    toctree = "\n".join(f"   {room}" for room in rooms)
    return "\n".join([*parts, _title("Rooms", "-"), f".. toctree::\n   :maxdepth: 1\n\n{toctree}\n"])


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def plain_signature(_app, _what, _name, _object, _options, signature, returned):
    """Write ``NDArray[float32]`` as the source does, and ``...`` for defaults such as ``<factory>``.

    Sphinx would give up a whole signature for a default that Python cannot read.
    """
    array = r"~?(?:numpy\.)?ndarray\[tuple\[[^]]*\], ~?(?:numpy\.)?dtype\[~?(?:\w+\.)*(\w+)(?:\[[^]]*\])?\]\]"
    signature = signature and re.sub(r"<[a-z]+(?: <lambda>| \w+)?(?: at \w+)?>", "...", signature)
    return tuple(text and re.sub(array, r"NDArray[\1]", text) for text in (signature, returned))


def keep_text(_app, what, name, _object, _options, lines):
    """Keep the docstring of a constant: napoleon would take what stands before its first colon for a type."""
    if what in ("data", "attribute"):
        lines[:] = constants.pop(name, None) or constants.setdefault(name, [*lines])


constants: dict[str, list[str]] = {}


def list_fields(_app, what, _name, described, _options, lines):
    """Say in a class's own text what its fields mean, which stands beside them after ``#:``."""
    if what == "class" and described.__module__.startswith("jamendo_mood"):
        for (owner, field), text in ModuleAnalyzer.for_module(described.__module__).find_attr_docs().items():
            if owner == described.__qualname__:
                lines += ["", f":ivar {field}: {' '.join(text).strip()}"]


def is_field(_app, what, _name, described, skip, _options):
    """Fields get no entry of their own: shapes such as ``(tracks, targets)`` would link to fields of these names."""
    return True if what == "class" and not hasattr(described, "__get__") else skip


def setup(app):
    """Sphinx calls this; pages are written before it looks for them."""
    app.connect("builder-inited", write_api_pages)
    app.connect("autodoc-process-signature", plain_signature)
    for before_and_after_napoleon in (400, 600):
        app.connect("autodoc-process-docstring", keep_text, priority=before_and_after_napoleon)
    app.connect("autodoc-process-docstring", list_fields, priority=600)
    app.connect("autodoc-skip-member", is_field)
