import numpy as np
import pandas as pd
import pytest
from matplotlib import colors

from jamendo_mood import load_dataset
from jamendo_mood.datasets import plots
from jamendo_mood.datasets.dataset import Dataset, Track
from jamendo_mood.tasks import Task, metrics
from jamendo_mood.util.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("no_pyplot")

TAGS = ("calm", "loud", "never", "so $^_{$")
TRACKS = (
    # artist, seconds, tags, part
    ("ann", 30.0, "loud", "train"),
    ("ann", 60.0, "loud calm", "train"),
    ("ann", 240.0, "loud", "train"),
    ("ben", 120.0, "calm", "train"),
    ("cat", 3600.0, "loud calm so", "validation"),
    ("dan", 120.0, "loud", "test"),
    ("dan", 30.0, "", "test"),
)


def make_dataset(rows=TRACKS, tags=TAGS):
    tracks = tuple(Track(f"track_{n}", f"00/{n}.mp3", row[1], row[0]) for n, row in enumerate(rows))
    targets = np.array([[tag.split()[0] in row[2].split() for tag in tags] for row in rows], np.float32)
    parts = {part: np.flatnonzero([row[3] == part for row in rows]) for part in ("train", "validation", "test")}
    return Dataset(Task("toy", "tags", tags), tracks, targets, parts, "none", "none")


def without_durations():
    return make_dataset([(artist, None, tags, part) for artist, _, tags, part in TRACKS])


@pytest.fixture
def dataset():
    return make_dataset()


@pytest.fixture(scope="module")
def mtg(shared):
    return load_dataset("jamendo-59", shared / "data" / "jamendo")


@pytest.fixture(scope="module")
def mtg_counts(shared):
    """Tracks and artists of each tag, counted in the lines of MTG's own table, by nothing of ours."""
    lines = (shared / "data/jamendo/autotagging_moodtheme.tsv").read_text().splitlines()[1:]
    tracks, artists = {}, {}
    for _track, artist, _album, _path, _duration, *tags in (line.split("\t") for line in lines):
        for tag in tags:
            name = tag.removeprefix("mood/theme---")
            tracks[name] = tracks.get(name, 0) + 1
            artists.setdefault(name, set()).add(artist)
    return {name: (count, len(artists[name])) for name, count in tracks.items()}


def names(axis):
    """The labels of the ticks, once each: labels on both sides come one side after the other."""
    return [label.get_text() for label in axis.get_ticklabels()][: len(axis.get_majorticklocs())]


def drawn_rows(axes):
    """Lengths of the bars in each row, the topmost row first, by the row's label."""
    rows = dict(zip(axes.get_yticks(), names(axes.yaxis), strict=True))
    lengths = {}
    for place, name in sorted(rows.items(), reverse=not axes.yaxis_inverted()):
        bars = [bar for bar in axes.patches if abs(bar.get_y() + bar.get_height() / 2 - place) < 0.3]
        lengths[name] = tuple(bar.get_width() for bar in bars)
    return lengths


def ticks_in_view(axis):
    """The labels that are printed: matplotlib keeps others beyond the ends of an axis."""
    axis.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    place = "xy".index(axis.axis_name)
    return [label for label in axis.get_ticklabels() if low <= label.get_position()[place] <= high]


def illegible(figure, texts):
    """Texts that are printed over another or reach out of the picture."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    assert len(boxes) > 1
    outside = [text for text, box in boxes if not (figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max))]
    return outside + [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)]


def test_the_table_of_tags_counts_tracks_artists_and_the_largest_artists_share(dataset):
    table = plots.tag_table(dataset)
    assert [*table.index] == ["loud", "calm", TAGS[3], "never"]
    assert table["tracks"].to_list() == [5, 3, 1, 0]
    assert table["artists"].to_list() == [3, 3, 1, 0]
    assert table["largest artist"].to_list()[:3] == pytest.approx([3 / 5, 1 / 3, 1])
    assert np.isnan(table["largest artist"]["never"])


def test_the_table_of_parts_has_a_row_a_part_and_one_for_all(dataset):
    expected = pd.DataFrame(
        {
            "tracks": [4, 1, 2, 7],
            "artists": [2, 1, 1, 4],
            "hours": [450 / 3600, 1.0, 150 / 3600, 4200 / 3600],
            "tags a track": [5 / 4, 3.0, 1 / 2, 9 / 7],
        },
        index=pd.Index(["train", "validation", "test", "all"], name="part"),
    )
    pd.testing.assert_frame_equal(plots.part_table(dataset), expected)


def test_hours_are_unknown_where_durations_are():
    rows = [("ann", 3600.0, "calm", "train"), ("ben", None, "calm", "test")]
    hours = plots.part_table(make_dataset(rows))["hours"]
    assert hours["train"] == 1
    assert hours[["test", "all"]].isna().all()


def test_artists_in_two_parts_are_counted(dataset):
    apart = plots.shared_artists(dataset)
    assert apart.to_numpy().tolist() == np.diag([2, 1, 1]).tolist()
    moved = make_dataset([*TRACKS, ("ann", 1.0, "calm", "test"), ("ben", 1.0, "calm", "test")])
    shared_by = plots.shared_artists(moved)
    assert shared_by["train"]["test"] == shared_by["test"]["train"] == 2
    assert shared_by["train"]["validation"] == 0
    assert shared_by["test"]["test"] == 3


def test_tags_are_bars_of_tracks_with_their_artists_inside(dataset):
    figure = plots.plot_tag_counts(dataset)
    (axes,) = figure.axes
    assert drawn_rows(axes) == {"loud": (5, 3), "calm": (3, 3), TAGS[3]: (1, 1), "never": (0, 0)}
    assert [text.get_text().strip() for text in axes.texts] == ["0 / 0", "1 / 1", "3 / 3", "5 / 3"]
    front = max(axes.patches, key=lambda bar: (bar.get_zorder(), axes.get_children().index(bar)))
    assert colors.to_hex(front.get_facecolor()) == plots.DECIDED  # artists, or tracks would hide them
    assert drawn_rows(plots.plot_tag_counts(dataset, 1).axes[0]) == {"loud": (5, 3)}


def test_the_number_of_tags_of_a_track_is_drawn(dataset):
    (axes,) = plots.plot_tags_per_track(dataset).axes
    assert [bar.get_height() for bar in axes.patches] == [1, 4, 1, 1]
    assert names(axes.xaxis) == ["0", "1", "2", "3"]
    (axes,) = plots.plot_tags_per_track(make_dataset(TRACKS[:6])).axes
    assert names(axes.xaxis) == ["1", "2", "3"]
    assert axes.get_xlim()[0] == pytest.approx(0.4)


def test_artists_are_drawn_in_bins_that_double():
    rows = [(artist, 1.0, "calm", "train") for artist in "abcccccddddeeee"]  # 1, 1, 5, 4, 4 tracks
    (axes,) = plots.plot_artists(make_dataset(rows)).axes
    expected = {"1": (2 / 5, 2 / 15), "2": (0, 0), "3–4": (2 / 5, 8 / 15), "5–8": (1 / 5, 5 / 15)}
    assert drawn_rows(axes) == {name: pytest.approx((100 * a, 100 * b)) for name, (a, b) in expected.items()}
    assert [text.get_text() for text in axes.texts] == ["2", "0", "2", "1", "2", "0", "8", "5"]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["5 artists, half of them with at most 4 tracks", "their 15 tracks"]


def test_durations_are_counted_on_a_logarithmic_axis(dataset):
    (axes,) = plots.plot_durations(dataset, bins=3).axes
    assert axes.get_xscale() == "log"
    edges = [30 * 120 ** (n / 3) for n in range(4)]  # 30 s, 148 s, 730 s, 1 h
    assert [bar.get_x() for bar in axes.patches] == pytest.approx(edges[:3])
    assert [bar.get_height() for bar in axes.patches] == [5, 1, 1]
    assert axes.lines[0].get_xdata() == [120, 120]
    assert axes.lines[0].get_label() == "median: 2:00"
    assert names(axes.xaxis) == ["30 s", "1 min", "2 min", "5 min", "10 min", "30 min", "1 h"]
    assert axes.get_title() == "7 tracks, 1.2 hours"


def test_equal_durations_are_one_bar_in_the_middle():
    rows = [(artist, 12.0, "calm", "train") for artist in "abc"]
    (axes,) = plots.plot_durations(make_dataset(rows)).axes
    assert axes.get_xlim() == pytest.approx((6, 24))
    (bar,) = [bar for bar in axes.patches if bar.get_height()]
    assert bar.get_height() == 3
    assert bar.get_x() < 12 < bar.get_x() + bar.get_width()


def test_unknown_durations_are_left_out_and_said():
    rows = [("ann", 60.0, "calm", "train"), ("ben", None, "calm", "train"), ("cat", 0.0, "calm", "train")]
    (axes,) = plots.plot_durations(make_dataset(rows)).axes
    assert sum(bar.get_height() for bar in axes.patches) == 1
    assert axes.get_title() == "1 tracks, 0.0 hours; 2 of unknown duration"
    with pytest.raises(UsageError, match="task 'toy' has no durations"):
        plots.plot_durations(without_durations())


def test_all_that_needs_no_durations_is_drawn_without():
    data = without_durations()
    draw = (plots.plot_tag_counts, plots.plot_tags_per_track, plots.plot_artists, plots.plot_parts)
    assert all(one(data)._repr_png_().startswith(b"\x89PNG") for one in draw)
    assert plots.part_table(data)["hours"].isna().all()


def test_the_share_of_each_tag_is_marked_part_by_part(dataset):
    (axes,) = plots.plot_parts(dataset).axes
    assert names(axes.yaxis)[::-1] == ["loud", "calm", TAGS[3], "never"]
    left = axes.get_xlim()[0]
    assert 0 < left < 50
    assert {line.get_label(): line.get_xdata().tolist()[::-1] for line in axes.lines} == {
        "train: 4 tracks by 2 artists": [75, 50, left, left],
        "validation: 1 tracks by 1 artists": [100, 100, 100, left],
        "test: 2 tracks by 1 artists": [50, left, left, left],
    }
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 3
    assert "left edge: none" in axes.get_xlabel()
    assert names(plots.plot_parts(dataset, 2).axes[0].yaxis) == ["calm", "loud"]
    assert "left edge" not in plots.plot_parts(dataset, 1).axes[0].get_xlabel()


def test_cooccurrence_is_the_share_of_the_row_that_has_the_column_too(dataset):
    shares = metrics.cooccurrence(dataset.targets)
    expected = [[1, 2 / 3, 0, 1 / 3], [2 / 5, 1, 0, 1 / 5], [np.nan] * 4, [1, 1, 0, 1]]
    np.testing.assert_allclose(shares, expected)
    np.testing.assert_array_equal(shares, metrics.cooccurrence(dataset.targets > 0))


def test_cooccurrence_of_many_examples_agrees_with_counting_one_by_one():
    Y = np.random.default_rng(0).random((200, 6)) < [0.02, 0.1, 0.3, 0.5, 0.9, 1]
    shares = metrics.cooccurrence(Y)
    assert np.diag(shares).tolist() == [1] * 6
    for row in range(6):
        for column in range(6):
            having = [example for example in Y.tolist() if example[row]]
            assert shares[row, column] == pytest.approx(sum(one[column] for one in having) / len(having))


@pytest.mark.parametrize("bad", [np.array([[0.2, 0.9]]), np.array([[np.nan, 1]]), np.array([0.0, 1.0])])
def test_scores_that_were_not_decided_are_no_table_of_tags(bad):
    with pytest.raises(DataError, match="not a table of 0 and 1"):
        metrics.cooccurrence(bad)
    with pytest.raises(DataError, match="does not fit 3 names"):
        plots.plot_cooccurrence(bad, ["a", "b", "c"])


def test_tags_that_go_together_become_neighbours():
    """Four families of three tags, dealt out so that no two of a family are next to each other."""
    rng = np.random.default_rng(1)
    family = np.arange(12) % 4
    chosen = rng.integers(0, 4, 2000)
    Y = (family == chosen[:, None]) & (rng.random((2000, 12)) < 0.7)
    order = metrics.similar_order(Y).tolist()
    assert sorted(order) == [*range(12)]
    assert np.count_nonzero(np.diff(family[order])) == 3
    axes = plots.plot_cooccurrence(Y, [f"tag {n}" for n in range(12)]).axes[0]
    assert names(axes.yaxis) == [f"tag {n}" for n in order]


def test_long_names_have_room():
    figure = plots.plot_cooccurrence(np.eye(7), [f"music for the {n}th hour of the day" for n in range(7)])
    axes = figure.axes[0]
    labels = [*ticks_in_view(axes.xaxis), *ticks_in_view(axes.yaxis), axes.xaxis.label, axes.yaxis.label]
    assert illegible(figure, labels) == []


def test_tags_that_shade_into_each_other_stand_in_a_row():
    """Each tag goes with those near it on a line; their columns are shuffled."""
    rng = np.random.default_rng(0)
    place = rng.permutation(10)
    Y = np.abs(place - rng.uniform(0, 9, (2000, 1))) < rng.uniform(0.5, 2, (2000, 1))
    found = place[metrics.similar_order(Y)].tolist()
    assert found in ([*range(10)], [*range(10)][::-1])


@pytest.mark.parametrize("k", [1, 2])
def test_one_tag_or_two_keep_their_order(k):
    Y = np.eye(3, k, dtype=bool)
    assert metrics.similar_order(Y).tolist() == [*range(k)]
    assert plots.plot_cooccurrence(Y, TAGS[:k])._repr_png_().startswith(b"\x89PNG")


def test_the_heat_map_shows_the_shares_in_the_order_of_its_labels(dataset):
    figure = plots.plot_cooccurrence(dataset.targets, TAGS)
    (axes,) = figure.axes  # few tags have numbers in place of a colour bar
    assert sorted(names(axes.yaxis)) == sorted(TAGS)
    assert names(axes.xaxis) == names(axes.yaxis)
    order = [TAGS.index(name) for name in names(axes.yaxis)]
    expected = 100 * metrics.cooccurrence(dataset.targets)[np.ix_(order, order)]
    np.fill_diagonal(expected, np.nan)
    (image,) = axes.get_images()
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), expected)
    assert image.get_clim() == (0, 100)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    calm, loud = (names(axes.yaxis).index(name) for name in ("calm", "loud"))
    assert written[loud, calm] == "67"  # x is the column: of the calm, two thirds are loud
    assert written[calm, loud] == "40"
    assert len(written) == 9  # no diagonal, no row of the tag that nothing has
    assert figure._repr_png_().startswith(b"\x89PNG")  # dollars in a name are no formula


@pytest.mark.shared
def test_the_official_tables_are_drawn_as_counted(mtg, mtg_counts):
    (axes,) = plots.plot_tag_counts(mtg).axes
    assert drawn_rows(axes) == mtg_counts
    assert len(mtg_counts) == 59
    assert [tracks for tracks, _ in drawn_rows(axes).values()] == sorted((n for n, _ in mtg_counts.values()))[::-1]
    bars = plots.plot_durations(mtg).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 18_486
    table = plots.part_table(mtg)
    assert table["hours"]["all"] == pytest.approx(1126.5, abs=0.05)
    assert plots.shared_artists(mtg).to_numpy().trace() == table["artists"]["all"] == 1533
    assert (plots.shared_artists(mtg).to_numpy() > 0).sum() == 3


@pytest.mark.thorough
@pytest.mark.shared
def test_nothing_is_printed_over_anything_with_59_tags(mtg):
    for draw in (plots.plot_tag_counts, plots.plot_parts, plots.plot_artists, plots.plot_durations):
        figure = draw(mtg)
        (axes,) = figure.axes
        beside = [*axes.texts, *axes.get_legend().get_texts(), axes.xaxis.label, axes.yaxis.label, axes.title]
        assert illegible(figure, [*ticks_in_view(axes.xaxis), *ticks_in_view(axes.yaxis), *beside]) == []
    figure = plots.plot_cooccurrence(mtg.targets, mtg.task.targets)
    axes = figure.axes[0]
    assert (len(ticks_in_view(axes.xaxis)), len(ticks_in_view(axes.yaxis))) == (2 * 59, 59)  # columns at both ends
    beside = [axes.xaxis.label, axes.yaxis.label]
    assert illegible(figure, [*ticks_in_view(axes.xaxis), *ticks_in_view(axes.yaxis), *beside]) == []


@pytest.mark.shared
def test_on_the_official_tables_families_of_tags_are_blocks(mtg):
    order = [mtg.task.targets[column] for column in metrics.similar_order(mtg.targets)]
    for family in (("holiday", "christmas"), ("summer", "deep"), ("trailer", "epic"), ("corporate", "motivational")):
        assert abs(order.index(family[0]) - order.index(family[1])) == 1
    shares = metrics.cooccurrence(mtg.targets)
    holiday, christmas = (mtg.task.targets.index(tag) for tag in ("holiday", "christmas"))
    assert shares[holiday, christmas] == pytest.approx(137 / 176)
    assert shares[christmas, holiday] == pytest.approx(137 / 623)
