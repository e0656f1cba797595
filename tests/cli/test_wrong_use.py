"""Wrong use of commands: one line that says what is wrong, exit status 2, and nothing is left behind."""

import numpy as np
import pytest
from toy_examples import OTHER_SPEC

from jamendo_mood.store.embedding_store import EmbeddingStore

pytest_plugins = ["demo_corpus", "toy_commands"]

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
TABLES = {
    "other.tsv": "a\tb\n",
    "empty.tsv": HEADER,
    "far.tsv": HEADER + "t\ta\tb\t99/9.mp3\t1.0\tx\n",
    "tags.txt": "b\na\n",
    "one.txt": "a\t1\n",
    "two.txt": "a\t1\nb\t1\n",
    "folder/notes.txt": "",
    "twice/a.mp3": "",
    "twice/a.wav": "",
}
ARRAYS = {
    "truth.npy": np.array([[0, 1], [1, 0], [1, 1], [0, 0]]),
    "scores.npy": np.random.default_rng(0).random((4, 2)),
    "sevens.npy": np.full((4, 2), 7),
    "short.npy": np.eye(2),
    "nan.npy": np.full((4, 2), np.nan),
    "zeros.npy": np.zeros((4, 2)),
}


@pytest.fixture
def places(tmp_path, songs, corpus, corpus_store, tagger_folder, monkeypatch):
    """What wrong uses are made of: in the working directory, and by name."""
    for name, text in TABLES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, values in ARRAYS.items():
        np.save(tmp_path / name, values)
    EmbeddingStore(tmp_path / "other", OTHER_SPEC)
    monkeypatch.chdir(tmp_path)
    return {"corpus": corpus.root, "store": corpus_store.root, "tagger": tagger_folder}


RIGHT = {
    "extract": "--store new --embedder logmel",
    "train": "--task jamendo --data {corpus} --store {store} --out tagger",
    "evaluate": "--data {corpus} --store {store}",
    "score": "--truth truth.npy --predictions scores.npy",
    "tag": "--tagger {tagger}",
    "similar": "--store {store} --tagger {tagger}",
    "playlist": "--store {store} --tagger {tagger}",
}
WRONG = [
    ("extract none", "none: no such folder of audio files"),
    ("extract folder", r"folder: no audio files there \(\.3gp, "),
    ("extract songs --store other", "a store of other .*not of logmel"),
    ("extract songs --tracks other.tsv", r"other\.tsv: not the expected table"),
    ("extract songs --tracks none.tsv", r"none\.tsv: no such file"),
    ("extract songs --tracks empty.tsv", r"empty\.tsv: the table has no tracks"),
    ("extract songs --tracks far.tsv", r"none of the 1 tracks of far\.tsv is in songs: it names .*such as '00/1000'"),
    ("extract twice", r"1 tracks have several files each, keep one of them: .*a\.mp3 and .*a\.wav"),
    ("extract songs --embedder ear", r"unknown embedder 'ear' \(known: vggish, "),
    ("extract songs --shard 5/4", r"argument --shard: '5/4' is not of the form I/N"),
    ("extract songs --limit 0", "argument --limit: '0' is not a whole number from 1 up"),
    ("extract songs --scratch one.txt", "cannot use one.txt as a scratch folder"),
    ("extract songs --store one.txt", "one.txt: not an embedding store"),
    ("extract songs --colour", "unrecognized arguments: --colour"),
    ("train --task jazz", r"unknown task 'jazz' \(known: jamendo, "),
    ("train --data none", "none: no such folder of data"),
    ("train --data songs", r"moodtheme_split\.txt: no such file"),
    ("train --split 7", r"split-7: no such split; `jamendo-mood splits"),
    ("train --head hydra", r"unknown head 'hydra' \(known: linear, .*cnn, svm; import"),
    ("train --epochs 2", "the head svm, the default for .* examples, has neither epochs nor an ensemble: name another"),
    ("train --head svm --ensemble 2", "the head svm has neither epochs nor an ensemble: name another one"),
    ("train --pooling max", r"unknown pooling 'max' \(known: frames, mean, mean\+std, mean\+change\)"),
    ("train --set dropuot=0.1", "there is no setting 'dropuot'; there are: .*dropout"),
    ("train --set dropout=much", "dropout must be a number, not 'much'"),
    ("train --set dropout", "'dropout' is not of the form NAME=VALUE"),
    ("train --store none", r"none: no embedding store there \(no store.json\)"),
    ("train --store other", "none of the 24 tracks of part 'train' is in the store"),
    ("train --out songs", "songs: holds something other than a tagger"),
    ("evaluate songs", r"songs: no tagger there \(no tagger.json\)"),
    ("evaluate {tagger} --part noon", r"no part 'noon' \(it has: train, validation, test\)"),
    ("evaluate {tagger} --store other", "needs embeddings of logmel"),
    ("score --truth none.npy", r"none\.npy: cannot be read as a \.npy file"),
    ("score --truth sevens.npy", "only zeros and ones"),
    ("score --truth short.npy", r"predictions have the shape \(4, 2\), the truth"),
    ("score --truth zeros.npy", "no tag among 2 has both"),
    ("score --predictions nan.npy", "4 of 4 rows .* hold NaN"),
    ("score --tags one.txt", "1 names of tags for 2 columns"),
    ("score --thresholds one.txt", r"one\.txt: 1 thresholds for 2 tags"),
    ("score --thresholds two.txt --tags tags.txt", "name different tags, or in another order"),
    ("score --thresholds two.txt --decisions truth.npy", "not allowed with argument"),
    ("tag songs --tagger songs", "songs: no tagger there"),
    ("tag none.mp3", r"none\.mp3: no such file, folder or store"),
    ("tag folder", "no audio files in folder"),
    ("tag other", "this tagger needs embeddings of logmel"),
    ("tag", "the following arguments are required: FILE"),
    ("spectrogram none.mp3 a.png", r"none\.mp3: no such file or folder"),
    ("spectrogram songs/00/1000.mp3 a.jpg", r"a\.jpg: spectrograms are written as PNG"),
    ("spectrogram songs one.txt", "one.txt: songs is a folder, so name a folder"),
    ("spectrogram songs a.png", r"a\.png: songs is a folder, so name a folder"),
    ("spectrogram folder out", "no audio files in folder"),
    ("spectrogram songs/00/1000.mp3 a.png --start 61", r"\.mp3: it ends before 61 s"),
    ("spectrogram songs out --start -1", "0 s or later, not at -1 s"),
    ("spectrogram songs/00/1000.mp3 a.png --duration 0", "longer than 0 s, not 0 s"),
    ("demo --embedder ear --out", "argument --out: expected one argument"),
    ("sing", "invalid choice: 'sing'"),
    (f"verify {'a' * 300}", "aaa.*: File name too long"),
    (f"tag songs --tagger {'a' * 300}", "aaa.*: File name too long"),
    ("extract songs --augment 1 --task jamendo", "--augment needs --task and --data"),
    ("extract songs --augment 1 --task jazz --data .", "unknown task 'jazz'"),
    ("extract songs --augment 1 --task jamendo --data x --tracks t.tsv", "--augment does not go with --tracks"),
    ("extract songs --augment 1 --task jamendo --data x --ray local", "--augment does not go with --ray"),
    ("extract songs --task jamendo", "--task goes with --augment: it says whose copies to make"),
    ("extract songs --split 2", "--split goes with --augment"),
    ("extract s3://bucket/audio", "s3://bucket/audio: URLs go with --ray"),
    ("extract songs --store s3://bucket/store", "s3://bucket/store: URLs go with --ray"),
    ("extract songs --ray-actors 2", "--ray-actors goes with --ray"),
    ("extract --from-jamendo low --ray auto", "--from-jamendo does not go with --ray"),
    ("similar no/such", "no/such: no track of .*, and no audio file"),
    ("similar /none.mp3", "/none.mp3: no track of .*, and no audio file"),  # an absolute path can be no key
    ("similar 00/1000 --format m3u8", "give the folder that was extracted with --audio DIR"),
    ("similar 00/1000 --audio folder", "none of the"),
    ("playlist", "one of the arguments --mood --at --emotion --emotion-of --all is required"),
    ("playlist --all lists", "give the folder that was extracted with --audio DIR"),
    ("playlist --all lists --audio . --out x", "--all writes m3u8 playlists into lists, and takes no --out"),
    ("playlist --all lists --audio . --to 0,0", "neither --mood nor --all"),
    ("playlist --mood sad", "'sad' is not of the form NAME=VALUE"),
    ("playlist --mood sad=2", "a level is from 0"),
    ("playlist --mood groovy=1", "no mood 'groovy'; there are dark, energetic, happy, relaxing, sad"),
    ("playlist --mood sad=1 --at 0,0", "not allowed with argument --mood"),
    ("playlist --mood sad=1 --to 0,0", "--to is the end of a path: give its start with --at or --emotion"),
    ("playlist --mood sad=1 --remember", "--remember keeps emotions: ask with --emotion, --emotion-of or --at"),
    ("playlist --at -2,0", "'-2,0' is not valence and arousal"),
    ("playlist --at 0,0 --to 0,0 --to-emotion joy", "not allowed with argument --to"),
    ("playlist --to 0,0", "one of the arguments"),
    ("playlist --emotion serenety", "did you mean serenity"),
    ("playlist --emotion sad --emotion-of a", "not allowed with argument --emotion"),
    ("playlist --emotion-of no/such", "no/such: no such track among the"),
    ("playlist --emotion sad --places none.csv", r"none\.csv: no such file"),
    ("playlist --at 0,0 --out list.m3u8", "give the folder that was extracted with --audio DIR"),
    ("playlist --at 0,0 --count 0", "'0' is not a whole number from 1 up"),
    ("playlist --at 0,0 --audio none", "none: no such folder"),
    ("playlist --at 0,0 --audio songs --relative", "--relative is about the files of an m3u8 playlist"),
    ("playlist --at 0,0 --audio songs --relative --out a.csv", "--relative is about the files of an m3u8 playlist"),
    ("library {store} --titles", "give the folder that was extracted with --audio DIR"),
    ("history --plot curve.jpg", "its name must end in .png"),
    ("history --forget --plot curve.png", "not allowed with argument"),
    ("history --forget --format json", "not allowed with argument"),
    ("export {store} out --shard-rows=0", "'0' is not a whole number from 1 up"),
    ("export {store} out --shard-mb=many", "'many' is not a whole number from 1 up"),
    ("export {store} out --shard-rows 1 --shard-mb 1", "not allowed with"),
    ("export musicnn out --onnx --shard-rows 1", "not allowed with"),
    ("export {store} out --onnx", "no tagger there"),
    ("export folder out", r"folder: no embedding store there \(no store.json\)"),
    ("pack folder", r"folder: no embedding store there \(no store.json\)"),
    ("verify none --repair", r"none: no embedding store there \(no such folder\)"),
    ("verify folder --repair", "folder: no embedding store there, or beyond repair"),
    ("weights --remove", "--remove needs the network's name: vggish, yamnet, musicnn"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_use_is_one_line_and_leaves_nothing(run, places, tmp_path, words, message):
    before = {*tmp_path.rglob("*")}
    command, *rest = words.format(**places).split()
    right = RIGHT.get(command, "").format(**places).split()
    run(command, *right, *rest).check_error(command, message)
    left = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != "store.json"}
    assert left <= before
