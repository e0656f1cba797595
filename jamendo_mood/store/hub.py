"""Stores and taggers on the Hugging Face Hub, where a tagger is a model and a store is a data set.

The Hub's own client, of the extra ``hub``, transports and caches the files and knows the user's token: nothing here
asks for it. Of a repository only files of known names are fetched, and nothing of them is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jamendo_mood import __version__
from jamendo_mood.util import files
from jamendo_mood.util.errors import DiskFullError, DownloadError, MoodError, UsageError, need

FILES = {
    "model": ("tagger.json", "README.md", "weights-*.safetensors"),
    "dataset": ("store.json", "README.md", "*.npy"),
}
"""What is fetched of a repository of each kind. Its first file must be there."""
MAX_BYTES = {"model": 2 * 10**9, "dataset": 200 * 10**9}  #: of all of it together

_ADDRESS = re.compile(r"hf://(datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_LICENCE = re.compile(r"\bcc-(by(?:-nc)?(?:-(?:sa|nd))?)-(\d\.\d)\b|^(?:mit|apache-2\.0|cc0-1\.0)$")


def locate(path: Path | str, *, download: bool = True) -> Path:
    """A folder as it is; of ``hf://user/name`` or ``hf://datasets/user/name`` the folder where it was fetched to.

    ``@revision`` may follow: a branch, a tag or a commit. Without `download` no host is asked, and what an earlier
    call fetched is taken. Raises `UsageError` if this is not an address, or the client is not installed;
    `DownloadError` or `DiskFullError` if it cannot be fetched, is not a tagger or store, or is too large.
    """
    address = str(path)
    if not address.startswith("hf://"):
        return Path(path)
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f"{address}: not of the form hf://user/name@revision, or hf://datasets/user/name for a store")
    kind = "dataset" if found[1] else "model"
    where = {"repo_id": found[2], "repo_type": kind, "revision": found[3]}
    with _client(address) as client:
        if download:
            sizes = {item.path: getattr(item, "size", 0) for item in client.list_repo_tree(**where, recursive=True)}
            if FILES[kind][0] not in sizes:
                hint = "" if found[1] else " (the address of a store begins with hf://datasets/)"
                raise DownloadError(f"{address}: there is no {FILES[kind][0]} in it{hint}")
            if (size := sum(size for name, size in sizes.items() if _is_ours(name, kind))) > MAX_BYTES[kind]:
                raise DownloadError(f"{address}: it has {size:,} bytes, and {MAX_BYTES[kind]:,} are the most expected")
        return Path(client.snapshot_download(**where, allow_patterns=FILES[kind], local_files_only=not download))


def upload(contents: Mapping[str, Path], name: str, kind: str, *, public: bool) -> str:
    """Put files into the repository ``user/name``, new or not, and return its address on the web.

    It is one commit, which also removes earlier files of `FILES`. Raises `UsageError` if the repository is there and
    not as private or `public` as is asked for, or the client is not installed; `DownloadError` if the Hub refuses.
    """
    with _client(name) as client:
        url = client.create_repo(name, repo_type=kind, private=not public, exist_ok=True)
        if (private := client.repo_info(name, repo_type=kind).private) == public:
            now, remedy = ("private", "leave out") if private else ("public", "give")
            raise UsageError(f"{name}: is {now} already: {remedy} --public, or change that at {url}/settings")
        earlier = [path for path in client.list_repo_files(name, repo_type=kind) if _is_ours(path, kind)]
        operations = [client.CommitOperationAdd(path, content) for path, content in contents.items()]
        operations += [client.CommitOperationDelete(path) for path in earlier if path not in contents]
        client.create_commit(name, operations, commit_message=f"jamendo-mood {__version__}", repo_type=kind)
        return str(url)


def add_metadata(card: str, licence: str) -> str:
    """A card after what the Hub itself reads: the licence by its identifier there, and what to find it by."""
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    found = _LICENCE.search(name)
    facts = {"license": found[0]} if found else {"license": "other", "license_name": name}
    if found and found[1]:
        facts["license_link"] = f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/"
    lines = [f"{name}: {json.dumps(value)}" for name, value in facts.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "library_name: jamendo-mood", "tags: [audio, music, mood]", "---", "", card])


def _is_ours(name: str, kind: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILES[kind])


@contextmanager
def _client(what: str) -> Iterator[Any]:
    """The client; its errors, which are of many kinds and several packages, become one line that has no token."""
    need(what, "hub", "huggingface_hub")
    import huggingface_hub

    try:
        yield huggingface_hub
    except MoodError:
        raise
    except Exception as error:
        if files.is_disk_full(error):
            raise DiskFullError(f"{what}: no space left on the disk") from None
        if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404):
            why = "no such repository or revision, or not for you (`hf auth login`, or HF_TOKEN, says who you are)"
        elif isinstance(error, FileNotFoundError):
            why = "never fetched on this machine, and no host is asked"
        else:  # a server may repeat what it was sent
            token = huggingface_hub.get_token() or "\n"
            why = " ".join(str(error).split()).replace(token, "(your token)")[:300]
        raise DownloadError(f"{what}: {why}") from None
