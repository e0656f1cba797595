import errno
import itertools
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from damaged_stores import (
    DAMAGE,
    KEYS,
    OTHER_SPEC,
    SPEC,
    entry,
    flip,
    frames_of,
    make_store,
    replace_in,
    state_of,
    swap,
    write_old_entry,
)

from jamendo_mood.store.embedding_store import EmbeddingStore, encode_entry
from jamendo_mood.store.verification import REMEDIES, repair_store, verify_store
from jamendo_mood.util.errors import StoreError
from jamendo_mood.util.files import write_atomically


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def test_a_sound_store_is_sound(store):
    store.record_failure("a", "no sound")
    store.pack()
    seen, before = [], inodes_of(store.root)
    found = verify_store(store.root, lambda *progress: seen.append(progress))
    assert (found.sound, found.unchecked, found.findings, found.notes) == (4, 0, (), ())
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    repair = repair_store(store.root)
    assert (repair.done, repair.lost) == ((), ())
    assert verify_store(EmbeddingStore(store.root.parent / "empty", SPEC).root).findings == ()
    assert inodes_of(store.root) == before


@pytest.mark.parametrize("how", ["as files", "packed and restored"])
def test_a_remark_stays_with_its_track(how, store):
    remark = "6 of 12 s could be decoded"
    store.add("14/2", frames_of("14/2"), remark)
    before = entry(store).read_bytes()
    if how == "packed and restored":
        assert store.pack().remarks(store) == {"14/2": remark}
        entry(store).write_bytes(before[:300])
        repair_store(store.root)
        assert entry(store).read_bytes() == before
    assert store.remarks(store) == {"14/2": remark}
    found = verify_store(store.root)
    assert found.findings == ()
    assert f"14/2: {remark}" in found.notes
    store.add("14/2", frames_of("14/2"))
    assert store.remarks(["14/2", "no such track"]) == {}


def inodes_of(root):
    """Every file by inode: what was renamed is the same."""
    return {path.lstat().st_ino for path in root.rglob("*") if not path.is_dir()}


def test_entries_of_earlier_versions_are_sound_without_a_checksum(store):
    write_old_entry(store, "14/2", frames_of("14/2"))
    before = entry(store).read_bytes()
    found = repair_store(store.root).left
    assert (found.sound, found.unchecked, found.findings) == (4, 1, ())
    assert entry(store).read_bytes() == before


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


def test_drafts_of_live_writers_files_of_others_and_names_that_differ_in_case_are_only_noted(store):
    (store.root / "notes.txt").touch()
    (store.root / ".git").mkdir()
    (store.root / ".git" / "config.npy").touch()
    (store.root / "14" / "2.npy.bad-2").touch()
    store.add("a. band - SO\u0308NG", frames_of("14/2"))
    found = []
    write_atomically(store.root / "14" / "new.npy", lambda _: found.append(verify_store(store.root)))
    assert found[0].findings == ()
    assert set(found[0].notes) == {
        "files that are not the store's: 2",
        "files set aside by a repair: 1",
        "files that are being written, or another user's: 1",
        "2 tracks are called 'a. band - söng' but for case: not every disk keeps them apart",
    }


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
    np.savez_compressed(store.root / "library-none.npz", keys=np.zeros(10**6))
    (finding,) = verify_store(store.root).findings
    assert (finding.kind, finding.name) == ("cache", "library-none.npz")
    assert "arrays of 8,000,128 bytes, where" in finding.problem


def test_what_is_swapped_or_edited_is_not_let_in(store):
    one, other = (store.root / f"{key}.npy" for key in KEYS[:2])
    one.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match=r"14/2\.npy: holds the embedding of '48/948' .*verify STORE --repair"):
        store["14/2"]
    replace_in(store.root / "store.json", "0.5", "0.25")
    with pytest.raises(StoreError, match="does not belong there"):
        EmbeddingStore(store.root)["48/948"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_repaired_and_what_is_missing_is_said(damage, store):
    whole = state_of(store.root)
    act, named, lost = DAMAGE[damage]
    act(store)
    before, files = state_of(store.root), {path: path.lstat().st_ino for path in store.root.rglob("*.npy")}
    found = verify_store(store.root)
    assert {finding.name for finding in found.findings} == named
    assert {finding.kind for finding in found.findings} <= REMEDIES.keys()
    assert all(finding.problem for finding in found.findings)
    assert state_of(store.root) == before
    repair = repair_store(store.root)
    assert repair.left.findings == verify_store(store.root).findings == ()
    assert {finding.name for finding, _ in repair.done} == named
    assert set(repair.lost) == lost
    assert damage == "link out of the store" or {*files.values()} <= inodes_of(store.root)
    again = EmbeddingStore(store.root)
    for key in {*KEYS} - set(again):
        assert damage == "packed, then replaced" or key in lost
        again.add(key, frames_of(key))
    assert damage == "packed, then replaced" or whole.items() <= state_of(store.root).items()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_those_in_each_others_places_are_put_back(store, count):
    for one, other in itertools.pairwise(KEYS[:count]):
        swap(store, one, other)
    assert len(repair_store(store.root).done) == count
    for key in KEYS:
        np.testing.assert_array_equal(EmbeddingStore(store.root)[key], frames_of(key))


def test_those_of_a_ring_and_those_that_wait_for_it_are_put_back_or_kept(store):
    before = {key: entry(store, key).read_bytes() for key in KEYS}
    swap(store, KEYS[0], KEYS[1])
    (store.root / "copy.npy").write_bytes(before[KEYS[0]])
    entry(store, KEYS[2]).rename(store.root / "free.npy")
    entry(store, KEYS[3]).rename(entry(store, KEYS[2]))
    done = {finding.name: what for finding, what in repair_store(store.root).done}
    assert {name: what.split()[0] for name, what in done.items()} == {
        "copy": "set", KEYS[0]: "moved", KEYS[1]: "moved", KEYS[2]: "moved", "free": "moved"
    }  # fmt: skip
    assert {key: entry(store, key).read_bytes() for key in KEYS} == before
    assert (store.root / "copy.npy.bad").read_bytes() == before[KEYS[0]]


def test_a_repair_that_is_killed_forgets_no_embedding_whose_place_is_free(store, monkeypatch):
    entry(store).rename(store.root / "wrong.npy")
    real = type(store.root).rename

    def rename_and_die(path, target):
        real(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(store.root), "rename", rename_and_die)
    with pytest.raises(KeyboardInterrupt):
        repair_store(store.root)
    monkeypatch.undo()
    repair_store(store.root)
    np.testing.assert_array_equal(EmbeddingStore(store.root)["14/2"], frames_of("14/2"))


def test_what_was_done_is_told_where_no_manifest_can_be_found_again(store):
    other = make_store(store.root.parent / "other", OTHER_SPEC, ["new"])
    (other.root / "new.npy").rename(store.root / "new.npy")
    flip(entry(store), 200)
    (store.root / "48/948.npy").rename(store.root / "wrong.npy")
    (store.root / "store.json").unlink()
    (store.root / "failures.tsv").write_bytes(b"key\terror\na\tb\nhalf")
    repair = repair_store(store.root)
    assert [(finding.name, what) for finding, what in repair.done] == [
        ("14/2", "set aside as 2.npy.bad"),
        ("wrong", "moved to '48/948'"),
        ("failures.tsv", "written anew, without these lines"),
    ]
    assert [finding.kind for finding in repair.left.findings] == ["no manifest"]
    assert repair.lost == ("14/2", "wrong")
    assert (store.root / "failures.tsv").read_bytes() == b"key\terror\na\tb\n"


def test_a_sound_copy_elsewhere_takes_the_place_of_a_damaged_one(store):
    shutil.copy(entry(store), entry(store, "copy"))
    flip(entry(store), 200)
    repair = repair_store(store.root)
    assert (repair.left.findings, repair.lost) == ((), ("copy",))
    np.testing.assert_array_equal(EmbeddingStore(store.root)["14/2"], frames_of("14/2"))


def test_what_was_set_aside_before_is_kept(store):
    for number in range(3):
        store.add("14/2", np.full((1, 4), number, np.float32))
        flip(entry(store))
        repair_store(store.root)
    assert {path.name for path in (store.root / "14").iterdir()} == {"2.npy.bad", "2.npy.bad-2", "2.npy.bad-3"}


def test_a_packed_copy_without_a_checksum_restores_nothing_and_is_kept(store):
    for key in KEYS:
        write_old_entry(store, key, frames_of(key))
    store.pack()
    entry(store).unlink()
    repair = repair_store(store.root)
    assert [(finding.name, done) for finding, done in repair.done] == [
        ("14/2", "set aside as index.tsv.bad and frames.npy.bad; pack the store again")
    ]
    assert repair.left.findings == ()
    np.testing.assert_array_equal(np.load(store.root / "frames.npy.bad")[: len(frames_of("14/2"))], frames_of("14/2"))


def test_stores_of_several_machines_copied_together_are_one(tmp_path):
    for name, keys in (("one", KEYS[:2]), ("two", KEYS[2:])):
        shutil.copytree(make_store(tmp_path / name, keys=keys).root, tmp_path / "all", dirs_exist_ok=True)
    assert verify_store(tmp_path / "all").sound == len(KEYS)


def test_a_hostile_entry_leads_nowhere(store, tmp_path):
    for key in ("../../escaped", "/escaped", ".hidden"):
        entry(store).write_bytes(encode_entry(key, frames_of("14/2"), SPEC))
        repair = repair_store(store.root)
        assert "cannot be the key of a track" in repair.done[0][0].problem
        assert repair.lost == ("14/2",)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not os.path.lexists("/escaped.npy")
