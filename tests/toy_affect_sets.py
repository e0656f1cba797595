"""Small data sets of valence and arousal as their authors write them: line ends, quotes, tabs and spaces included."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

# Song, artist as it is written, chorus in seconds. Artist 2 is spelled in two ways, song 12 has no artist, song 13 and
# 14 have no annotation, and of song 99 there is nothing but annotations.
POP = [
    ("1", "2 Names", 32.1), ("4", "21 Lines", 28.09), ("5", "21  LINES ", 84.23), ("6", "방탄소년단", 39.12),
    *((str(number), f"Singer {number}", 20.0 + number) for number in (7, 8, 9, 10, 11, 20, 21, 22)),
    ("12", "n/a", 21.5), ("13", "Short", 12.07), ("14", "Singer 7", 14.06),
]  # fmt: skip
UNANNOTATED, UNLISTED = ("13", "14"), "99"

# Number, artist, official part. The artist of 2 and 3 is in both parts, as is the recording of 631 and 893; the artist
# of 17 is the one of 16, run on.
CLIPS = [
    ("2", "The Both Sides", "development"), ("3", "The Both Sides", "evaluation"), ("4", "Testée", "evaluation"),
    *((str(number), f"Player {number}", "development") for number in range(5, 16)),
    ("16", "Adam Run", "development"), ("17", "Adam Run-Song of the Re", "development"),
    ("18", "Re-Stoned", "development"), ("631", "Alias", "development"), ("893", "Testée B", "evaluation"),
    ("1000", "Player 5", "development"),
]  # fmt: skip
TIMES_MS = range(15_000, 17_001, 500)

SONGS_2013 = [(song, artist) for song, artist, _ in CLIPS]
SONGS_2014 = [("1001", "Player 5"), ("1002", "Rope &amp; River"), ("2000", "Fresh")]
SONGS_2015 = [("2001", "Tree"), ("2002", "Amar, L."), ("2058", "Tree")]
FEATURES = ("F0final_sma_amean", "jitterLocal_sma_amean", "audSpec_Rfilt_sma[0]_amean")


def make_values(song: str, low: float, high: float, count: int = 2) -> list[float]:
    """Valence and arousal of a song, or more numbers, the same whenever they are asked for."""
    return np.random.default_rng(int(song)).uniform(low, high, count).round(4).tolist()


def curve_values(song: str, low: float, high: float, count: int) -> np.ndarray:
    """Valence and arousal at each moment, (count, 2)."""
    return np.array(make_values(song, low, high, 2 * count)).reshape(count, 2)


def pop_moments(song: str) -> int:
    """How many moments of a song are annotated."""
    return 2 + int(song) % 5


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def write_pmemo(root: Path) -> Path:
    """PMEmo: LF, arousal before valence, titles with commas in quotes."""
    songs = [song for song, _, _ in POP if song not in UNANNOTATED] + [UNLISTED]
    static = ["musicId,Arousal(mean),Valence(mean)"]
    dynamic = ["musicId,frameTime,Arousal(mean),Valence(mean)"]
    for song in songs:
        valence, arousal = make_values(song, 0, 1)
        static.append(f"{song},{arousal},{valence}")
        for moment, (valence, arousal) in enumerate(curve_values(song, 0, 1, pop_moments(song))):
            dynamic.append(f"{song},{15.5 + moment / 2},{arousal},{valence}")
    write(root / "annotations/static_annotations.csv", static)
    write(root / "annotations/dynamic_annotations.csv", dynamic)
    lines = ["musicId,fileName,title,artist,album,duration,chorus_start_time,chorus_end_time"]
    for song, artist, duration_s in POP:
        lines.append(f'{song},{song}.mp3,Outro : {song},{artist},"Deposit, Vol. {song}",{duration_s},02:35,03:05')
    write(root / "metadata.csv", lines)
    return root


def write_emomusic(root: Path) -> Path:
    """emoMusic: CRLF in the static table, tabs inside the quotes of the other, long decimals in the curves."""
    static = ["song_id,mean_arousal,std_arousal,mean_valence,std_valence"]
    for song, _, _ in CLIPS:
        valence, arousal = make_values(song, 1, 9)
        static.append(f"{song},{arousal},0.99443,{valence},0.66667")
    write(root / "annotations/static_annotations.csv", static, "\r\n")
    header = '"song_id","file_name","Artist","Song title","start of the segment (min.sec)",'
    lines = [header + '"end of the segment (min.sec)","Genre","Mediaeval 2013 set"']
    for song, artist, part in CLIPS:
        lines.append(f'{song},"\t{song}.mp3","{artist}\t","\tSlow, Burn\t","\t0.48\t","\t1.33\t","\tBlues\t","{part}"')
    write(root / "annotations/songs_info.csv", lines)
    for column, target in enumerate(("valence", "arousal")):
        lines = ["song_id," + ",".join(f"sample_{time_ms}ms" for time_ms in TIMES_MS)]
        for song, _, _ in CLIPS:
            values = curve_values(song, -1, 1, len(TIMES_MS))[:, column]
            lines.append(f"{song}," + ",".join(f"{value:.15f}" for value in values))
        write(root / f"annotations/{target}_cont_average.csv", lines)
    return root


def write_deam(root: Path) -> Path:
    """DEAM: CRLF and spaces in the headers of the static tables, which differ; so do those of the three years."""
    first = ["song_id, valence_mean, valence_std, arousal_mean, arousal_std"]
    second = ["song_id, valence_mean, valence_std, valence_ max_mean, arousal_mean, arousal_std, arousal_max_mean"]
    for song, _ in SONGS_2013 + SONGS_2014:
        valence, arousal = make_values(song, 1, 9)
        first.append(f"{song},{valence},0.94,{arousal},0.63")
    for song, _ in SONGS_2015:
        valence, arousal = make_values(song, 1, 9)
        second.append(f"{song},{valence},0.98,9.0,{arousal},0.8,8.6")
    write(root / "static_annotations_averaged_songs_1_2000.csv", first, "\r\n")
    write(root / "static_annotations_averaged_songs_2000_2058.csv", second, "\r\n")
    year = [f'{song},"\t{song}.mp3","{artist}\t","\tTonight  A Century\t","\tBlues\t"' for song, artist in SONGS_2013]
    write(root / "metadata_2013.csv", ["song_id,album,artist,title,Genre", *year])
    year = [f"{song},{artist},Some Album,Title,Rock,indie,,,," for song, artist in SONGS_2014]
    write(root / "metadata_2014.csv", ["song_id,artist,album,title,Genre,,,,,", *year])
    year = [f'{song},Title,"{artist}",n/a,Rock,,' for song, artist in SONGS_2015]
    write(root / "metadata_2015.csv", ["song_id,title,artist,album,Genre,,", *year])
    lines = ["song_id," + ",".join(FEATURES)]
    for song, _ in SONGS_2013 + SONGS_2014 + SONGS_2015:
        lines.append(f"{song}," + ",".join(f"{value:.8f}" for value in make_values(song, -5000, 5000, len(FEATURES))))
    write(root / "opensmile_means.csv", lines)
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    **dict.fromkeys(("pmemo", "pmemo-dynamic"), write_pmemo),
    **dict.fromkeys(("emomusic", "emomusic-dynamic"), write_emomusic),
    **dict.fromkeys(("deam", "deam-corrected"), write_deam),
}
