"use strict";
const MAX_LISTED = 500, MAX_MOODS = 8;
const at = (id) => document.getElementById(id);
const make = (tag, content, more = {}) => Object.assign(document.createElement(tag), { textContent: content, ...more });
const about = JSON.parse(at("data").textContent);

Bokeh.embed.embed_item(about.plane).then(() => {
  const [{ data, selected }, plot] = ["songs", "plot"].map((name) => Bokeh.documents[0].get_model_by_name(name));

  const showSong = (row) => {
    const table = make("table", "", { className: "moods" });
    const moods = about.moods.map((name, mood) => [name, data[`mood ${mood}`][row] % about.reached, data[`mood ${mood}`][row] >= about.reached]);
    for (const [name, level, reached] of moods.sort((one, other) => other[1] - one[1]).slice(0, MAX_MOODS)) {
      const line = table.insertRow(), bar = make("div", "");
      bar.style.width = `${level}%`;
      line.append(make("th", name), make("td", `${(level / 100).toFixed(2)} ${reached ? "*" : ""}`), make("td", "", { className: "bar" }));
      line.lastChild.append(bar);
    }
    at("song").replaceChildren(make("strong", data.name[row]), table);
  };

  const showSelected = () => {
    const rows = selected.indices;
    const many = rows.length > MAX_LISTED ? `, the first ${MAX_LISTED} listed` : "";
    at("chosen").textContent = rows.length ? `${rows.length.toLocaleString("en")} selected${many}` : "No song selected";
    at("list").replaceChildren(...rows.slice(0, MAX_LISTED).map((row) => {
      const item = make("li", ""), button = make("button", data.name[row]);
      button.dataset.show = row;
      item.append(button);
      return item;
    }));
    at("song").replaceChildren();
    if (rows.length) showSong(rows[0]);
    at("save").hidden = !rows.some((row) => data.file?.[row]); // without --audio there are no files
  };
  selected.properties.indices.change.connect(showSelected);
  showSelected();

  const save = () => {
    const rows = selected.indices.filter((row) => data.file[row]);
    const lines = rows.map((row) => `#EXTINF:${data.seconds[row]},${data.name[row]}\n${data.file[row]}\n`);
    const href = URL.createObjectURL(new Blob(["#EXTM3U\n", ...lines], { type: "audio/x-mpegurl" }));
    make("a", "", { href, download: "selected.m3u8" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  };

  document.addEventListener("click", ({ target: { id, dataset } }) => {
    const own = data[`mood ${dataset.mood}`];
    if (id === "save") save();
    else if (dataset.show) showSong(Number(dataset.show));
    else if (dataset.row) selected.indices = [Number(dataset.row)];
    else if (own) selected.indices = [...own.keys()].filter((row) => own[row] >= about.reached);
    if (dataset.row || own) at("plane").scrollIntoView({ block: "nearest" });
  });

  const colour = () => { // the plane's own styles know nothing of dark pages
    const ink = getComputedStyle(document.body).color;
    const parts = ["axis_line", "major_tick_line", "minor_tick_line", "axis_label_text", "major_label_text"];
    const colours = Object.fromEntries(parts.map((part) => [`${part}_color`, ink]));
    for (const axis of [...plot.below, ...plot.left]) axis.setv(colours);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colour);
  colour();
  document.body.dataset.ready = "yes";
});
