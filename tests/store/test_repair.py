import os
import shutil

import numpy as np
import pytest
from damaged_stores import DAMAGE, KEYS, OTHER_SPEC, SPEC, flip, frames_of, make_store, swap, write_old_entry

from jamendo_mood.store.embedding_store import EmbeddingStore
from jamendo_mood.store.verification import REMEDIES, repair_store, verify_store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def inodes_of(root):
    """Every file by inode: what was renamed is the same."""
    return {path.lstat().st_ino for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_repaired_and_what_is_missing_is_said(damage, store):
    before = {path.relative_to(store.root): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    act, named, lost = DAMAGE[damage]
    act(store)
    files = {path: path.lstat().st_ino for path in store.root.rglob("*.npy")}
    repair = repair_store(store.root)
    assert repair.left.findings == verify_store(store.root).findings == ()
    assert {finding.name for finding, _ in repair.done} == named
    assert set(repair.lost) == lost
    kept = inodes_of(store.root)
    assert damage == "link out of the store" or {inode for inode in files.values() if inode not in kept} == set()
    again = EmbeddingStore(store.root)
    for key in sorted({*KEYS} - set(again)):
        assert damage in {"packed, then replaced"} or key in lost
        again.add(key, frames_of(key))
    if damage != "packed, then replaced":
        assert {name: (store.root / name).read_bytes() for name in before} == before


def test_every_kind_of_damage_has_been_tried(store, tmp_path):
    kinds = set()
    for number, (act, _, _) in enumerate(DAMAGE.values()):
        made = make_store(tmp_path / str(number) / "store")
        act(made)
        kinds |= {finding.kind for finding in verify_store(made.root).findings}
    assert kinds == set(REMEDIES)


def test_a_sound_store_stays_as_it_is(store):
    before = inodes_of(store.root)
    repair = repair_store(store.root)
    assert (repair.done, repair.lost) == ((), ())
    assert inodes_of(store.root) == before


def test_three_in_each_others_places_are_put_back(store):
    swap(store, KEYS[0], KEYS[1])
    swap(store, KEYS[1], KEYS[2])
    repair = repair_store(store.root)
    assert len(repair.done) == 3
    for key in KEYS:
        np.testing.assert_array_equal(EmbeddingStore(store.root)[key], frames_of(key))


def test_those_of_a_ring_and_those_that_wait_for_it_are_put_back_or_kept(store):
    before = {key: (store.root / f"{key}.npy").read_bytes() for key in KEYS}
    swap(store, KEYS[0], KEYS[1])
    (store.root / "copy.npy").write_bytes(before[KEYS[0]])
    (store.root / f"{KEYS[2]}.npy").rename(store.root / "free.npy")
    (store.root / f"{KEYS[3]}.npy").rename(store.root / f"{KEYS[2]}.npy")
    done = {finding.name: what for finding, what in repair_store(store.root).done}
    assert {name: what.split()[0] for name, what in done.items()} == {
        "copy": "set", KEYS[0]: "moved", KEYS[1]: "moved", KEYS[2]: "moved", "free": "moved"
    }  # fmt: skip
    assert {key: (store.root / f"{key}.npy").read_bytes() for key in KEYS} == before
    assert (store.root / "copy.npy.bad").read_bytes() == before[KEYS[0]]


def test_a_repair_that_is_killed_forgets_no_embedding_whose_place_is_free(store, monkeypatch):
    (store.root / "14/2.npy").rename(store.root / "wrong.npy")
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
    flip(store.root / "14/2.npy", 200)
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
    (store.root / "copy.npy").write_bytes((store.root / "14/2.npy").read_bytes())
    flip(store.root / "14/2.npy", 200)
    repair = repair_store(store.root)
    assert repair.left.findings == ()
    assert repair.lost == ("copy",)
    np.testing.assert_array_equal(EmbeddingStore(store.root)["14/2"], frames_of("14/2"))


def test_what_was_set_aside_before_is_kept(store):
    for number in range(3):
        store.add("14/2", np.full((1, 4), number, np.float32))
        flip(store.root / "14/2.npy")
        repair_store(store.root)
    assert {path.name for path in (store.root / "14").iterdir()} == {"2.npy.bad", "2.npy.bad-2", "2.npy.bad-3"}


def test_no_checksum_is_given_to_what_has_none(store):
    write_old_entry(store, "14/2", frames_of("14/2"))
    before = (store.root / "14/2.npy").read_bytes()
    assert repair_store(store.root).left.unchecked == 1
    assert (store.root / "14/2.npy").read_bytes() == before


def test_a_packed_copy_without_a_checksum_restores_nothing_and_is_kept(store):
    for key in KEYS:
        write_old_entry(store, key, frames_of(key))
    store.pack()
    (store.root / "14/2.npy").unlink()
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
    from jamendo_mood.store.embedding_store import encode_entry

    for key in ("../../escaped", "/escaped", ".hidden"):
        (store.root / "14/2.npy").write_bytes(b"".join(encode_entry(key, frames_of("14/2"), SPEC)))
        repair = repair_store(store.root)
        assert "cannot be the key of a track" in repair.done[0][0].problem
        assert repair.lost == ("14/2",)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not os.path.lexists("/escaped.npy")
