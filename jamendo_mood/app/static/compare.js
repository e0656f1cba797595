// Several songs in one table: songs by tags, sorted by any column; a song's name leads to its card.

const COLUMNS = 8;

const comparison = (open) => {
  const songs = new Map();
  const node = element("section", { class: "jm-card jm-compare", hidden: true, "aria-label": "All songs" });
  let sorted = { by: null, down: true };

  // The tags that are highest in any of the songs; values as they are.
  const columns = () => {
    const highest = new Map();
    for (const song of songs.values()) for (const { name, score } of song.targets) highest.set(name, Math.max(shareOf(song)(score), highest.get(name) ?? 0));
    return [...highest].sort((one, other) => other[1] - one[1]).slice(0, COLUMNS).map(([name]) => name);
  };
  const nameOf = (song) => song.title || song.name;
  const tagOf = (song, name) => song.targets.find((tag) => tag.name === name);
  const compare = ([, one], [, other]) => {
    if (sorted.by === "") return nameOf(one).localeCompare(nameOf(other)) * (sorted.down ? 1 : -1);
    return ((tagOf(other, sorted.by)?.score ?? -Infinity) - (tagOf(one, sorted.by)?.score ?? -Infinity)) * (sorted.down ? 1 : -1);
  };

  const heading = (by, title) => {
    const order = sorted.by !== by ? undefined : sorted.down === (by === "") ? "ascending" : "descending";
    const sort = () => {
      sorted = { by, down: sorted.by === by ? !sorted.down : true };
      show();
      node.querySelector(`[data-by="${CSS.escape(by)}"]`).focus(); // the pressed button is gone
    };
    return element("th", { scope: "col", "aria-sort": order }, element("button", { "data-by": by, title: "sort by this", onclick: sort }, title, order ? (order === "ascending" ? " ▲" : " ▼") : null));
  };
  const cell = (song, name) => {
    const tag = tagOf(song, name);
    if (!tag) return element("td", {}, "–");
    const bar = element("i", { style: `width:${(56 * shareOf(song)(tag.score)).toFixed(1)}px` });
    return element("td", { class: tag.decided ? "jm-above" : undefined }, tag.score.toFixed(2), tag.decided ? " ★" : "", bar);
  };
  const show = () => {
    node.hidden = songs.size < 2;
    if (node.hidden) return node.replaceChildren();
    const tags = columns();
    const rows = sorted.by === null ? [...songs] : [...songs].sort(compare);
    node.replaceChildren(
      element("h2", {}, `${songs.size} songs`),
      element(
        "div",
        { class: "jm-scroll" },
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, heading("", "Song"), ...tags.map((tag) => heading(tag, tag)))),
          element("tbody", {}, ...rows.map(([id, song]) => element("tr", {}, element("th", { scope: "row" }, element("button", { title: song.mood, onclick: () => open(id) }, nameOf(song))), ...tags.map((tag) => cell(song, tag))))),
        ),
      ),
    );
  };
  return {
    node,
    add: (id, song) => (songs.set(id, song), show()),
    remove: (id) => songs.delete(id) && show(),
  };
};
