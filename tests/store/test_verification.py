import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from damaged_stores import DAMAGE, KEYS, SPEC, frames_of, make_store, replace_in, write_old_entry

from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.verification import verify_store
from jamendo_mood.util.errors import StoreError, UsageError
from jamendo_mood.util.files import write_atomically


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def state_of(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_fifo()
    }


def test_a_sound_store_is_sound(store):
    store.record_failure("a", "no sound")
    store.pack()
    seen = []
    found = verify_store(store.root, lambda *progress: seen.append(progress))
    assert (found.sound, found.unchecked, found.findings, found.notes) == (4, 0, (), ())
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_empty_store_is_sound(tmp_path):
    EmbeddingStore(tmp_path / "store", SPEC)
    assert verify_store(tmp_path / "store").findings == ()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_nothing_is_changed(damage, store):
    act, named, _ = DAMAGE[damage]
    act(store)
    before = state_of(store.root)
    found = verify_store(store.root)
    assert {finding.name for finding in found.findings} == named
    assert all(finding.problem for finding in found.findings)
    assert state_of(store.root) == before


def test_entries_of_earlier_versions_are_sound_without_a_checksum(store):
    write_old_entry(store, "14/2", frames_of("14/2"))
    found = verify_store(store.root)
    assert (found.sound, found.unchecked, found.findings) == (4, 1, ())


def test_an_older_store_is_not_taken_for_that_of_one_new_stranger(tmp_path):
    store = EmbeddingStore(tmp_path / "store", replace(SPEC, name="other"))
    write_old_entry(store, "14/2", frames_of("14/2"))
    stranger = make_store(tmp_path / "stranger", keys=["new"])
    (stranger.root / "new.npy").rename(store.root / "new.npy")
    (finding,) = verify_store(store.root).findings
    assert (finding.kind, finding.name) == ("stranger", "new")
    assert "name 'stub', not 'other'" in finding.problem


def test_a_manifest_that_is_missing_where_embeddings_disagree_has_no_remedy(store):
    other = make_store(store.root.parent / "other", replace(SPEC, name="other"), ["new"])
    (other.root / "new.npy").rename(store.root / "new.npy")
    (store.root / "store.json").unlink()
    (finding,) = verify_store(store.root).findings
    assert (finding.kind, finding.problem) == ("no manifest", "missing; the embeddings are of 2 embedders")


def test_what_is_no_store_is_refused(tmp_path, store):
    with pytest.raises(UsageError, match="no such folder"):
        verify_store(tmp_path / "nowhere")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "mine.npy", np.ones((3, 4), np.float32))
    with pytest.raises(UsageError, match=r"no embedding store there.*store\.json is missing"):
        verify_store(tmp_path / "arrays")


def test_drafts_of_live_writers_and_files_of_others_are_only_noted(store):
    (store.root / "notes.txt").touch()
    (store.root / ".git").mkdir()
    (store.root / ".git" / "config.npy").touch()
    (store.root / "14" / "2.npy.bad-2").touch()
    found = []
    write_atomically(store.root / "14" / "new.npy", lambda _: found.append(verify_store(store.root)))
    assert found[0].findings == ()
    assert set(found[0].notes) == {
        "files that are not the store's: 2",
        "files set aside by a repair: 1",
        "files that are being written, or another user's: 1",
    }


def test_names_that_differ_in_case_alone_are_noted(store):
    store.add("a. band - SO\u0308NG", frames_of("14/2"))
    found = verify_store(store.root)
    assert found.findings == ()
    assert found.notes == ("2 tracks are called 'a. band - söng' but for case: not every disk keeps them apart",)


def test_a_linked_folder_is_named_since_it_is_not_listed(store, tmp_path):
    (store.root / "48").rename(tmp_path / "48")
    (store.root / "48").symlink_to(tmp_path / "48")
    found = verify_store(store.root)
    assert [(finding.kind, finding.name) for finding in found.findings] == [("linked folder", "48")]
    assert set(store) == {"14/2", "A. Band - Söng"}


def fail_at(monkeypatch, function, part, code=errno.EIO):
    real = getattr(os, function)

    def fail(path, *rest, **named):
        if part in os.fsdecode(path):
            raise OSError(code, os.strerror(code), os.fsdecode(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, function, fail)


def test_a_folder_that_cannot_be_listed_hides_nothing(store, monkeypatch):
    fail_at(monkeypatch, "scandir", "store/48", errno.EACCES)
    (finding,) = verify_store(store.root).findings
    assert (finding.name, finding.kind) == ("48", "unreadable")
    assert "Permission denied" in finding.problem
    with pytest.raises(StoreError, match=r"store/48: cannot be listed \(Permission denied\)"):
        list(store)


@pytest.mark.parametrize("name", ["14/2.npy", "failures.tsv"])
def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(store, monkeypatch, name):
    store.record_failure("a", "b")
    fail_at(monkeypatch, "open", name)
    (finding,) = verify_store(store.root).findings
    assert (finding.kind, finding.name) == ("unreadable", name.removesuffix(".npy"))
    with pytest.raises(StoreError, match=r"cannot be read \(Input/output error\)"):
        store["14/2"] if name.endswith(".npy") else store.failures()


def test_kept_scores_are_not_inflated_beyond_what_the_file_is_worth(store):
    path = store.root / "library-none.npz"
    np.savez_compressed(path, keys=np.zeros(10**6))
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entries = content[start:end] * 1000  # of one array
    counts = (1000).to_bytes(2, "little") * 2
    sizes = len(entries).to_bytes(4, "little") + start.to_bytes(4, "little")
    path.write_bytes(content[:start] + entries + content[end : end + 8] + counts + sizes + bytes(2))
    (finding,) = verify_store(store.root).findings
    assert (finding.kind, finding.name) == ("cache", "library-none.npz")
    assert "arrays of 8,000,128,000 bytes, where" in finding.problem


def test_of_many_damaged_lines_the_first_are_told(store):
    (store.root / "failures.tsv").write_bytes(b"\n" * 10**5)
    (finding,) = verify_store(store.root).findings
    assert finding.problem.endswith("18, 19, 20 ...")


def test_what_is_swapped_or_edited_is_not_let_in(store):
    one, other = (store.root / f"{key}.npy" for key in KEYS[:2])
    one.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match=r"14/2\.npy: holds the embedding of '48/948' .*verify STORE --repair"):
        store["14/2"]
    replace_in(store.root / "store.json", "0.5", "0.25")
    with pytest.raises(StoreError, match="does not belong there"):
        EmbeddingStore(store.root)["48/948"]
