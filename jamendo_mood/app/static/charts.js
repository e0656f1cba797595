// Charts of a prediction: bars, a timeline, a plane. Each returns a node, and functions to call as the song plays.

const DOUBTFUL = { weak: "weak: hardly better than guessing when the tagger was graded", unknown: "unknown: too rare to be graded" };
const percent = (share) => `${(100 * share).toFixed(2)}%`;

// A score on the song's scale as a share of it, from 0 to 1.
const shareOf = ({ scale }, [low, high] = scale ?? [0, 1]) => (score) => Math.max(0, Math.min(1, (score - low) / (high - low)));

// One row per tag, class or value: score as a bar, its spread over time as a thin line, the threshold as a tick.
const tagBars = (song, tags, choose) => {
  const share = shareOf(song);
  const list = element("ul", { class: "jm-bars" });
  for (const tag of tags) {
    const [low, high] = tag.spread;
    const mark = DOUBTFUL[tag.reliability];
    const threshold = tag.threshold;
    const label = [
      `${tag.name}: score ${tag.score.toFixed(2)}`,
      tag.state,
      `from ${low.toFixed(2)} to ${high.toFixed(2)} over most of the song`,
      mark,
    ];
    const button = element(
      "button",
      { class: `jm-bar${tag.decided ? " jm-above" : ""}`, "aria-pressed": "false", "aria-label": label.filter(Boolean).join("; "), title: "show the seconds that carried it" },
      element("span", { class: "jm-bar-name" }, tag.name, mark ? element("em", { class: "jm-weak", title: mark }, tag.reliability) : null),
      element(
        "span",
        { class: "jm-bar-track" },
        element("span", { class: "jm-bar-fill", style: `width:${percent(share(tag.score))}` }),
        element("span", { class: "jm-bar-spread", style: `left:${percent(share(low))};width:${percent(Math.max(0.002, share(high) - share(low)))}` }),
        threshold === null ? null : element("span", { class: "jm-bar-threshold", style: `left:${percent(share(threshold))}` }),
      ),
      element("span", { class: "jm-bar-score" }, tag.score.toFixed(2), tag.decided ? " ★" : ""),
    );
    button.addEventListener("click", () => choose(tag.name));
    list.append(element("li", {}, button));
  }
  const press = (name) => {
    [...list.querySelectorAll("button")].forEach((button, row) => button.setAttribute("aria-pressed", String(tags[row].name === name)));
  };
  return { node: list, press };
};

// Tags over time as a heat map above the spectrogram, one cursor through both; a click or the arrow keys seek.
const timeline = (song, rows, seek) => {
  const canvas = element("canvas", { class: "jm-heat", "aria-hidden": "true", style: `height:${20 * rows.length}px` });
  const names = element("div", { class: "jm-heat-names", "aria-hidden": "true" }, ...rows.map((row) => element("span", {}, row.name)));
  const picture = element("img", { class: "jm-spectrogram", alt: `Log-mel spectrogram of ${song.name}: low notes at the bottom`, hidden: true });
  const cursor = element("div", { class: "jm-cursor" });
  const why = element("div", { class: "jm-why-marks", "aria-hidden": "true" });
  const slider = element("div", { class: "jm-slider", role: "slider", tabindex: "0", "aria-label": "Position in the song", "aria-valuemin": "0", "aria-valuemax": String(Math.round(song.duration_s)) }, canvas, picture, why, cursor);
  const axis = element("div", { class: "jm-axis", "aria-hidden": "true" }, ...[0, 0.25, 0.5, 0.75, 1].map((share) => element("span", {}, clock(share * song.duration_s))));

  const frames = song.frames;
  const highest = Math.max(0.02, ...rows.map((row) => shareOf(song)(row.peak)));
  const [low, high] = song.scale ?? [0, 1];
  const draw = () => {
    canvas.width = frames;
    canvas.height = rows.length;
    const painter = canvas.getContext("2d");
    painter.clearRect(0, 0, frames, rows.length);
    painter.fillStyle = getComputedStyle(slider).color;
    rows.forEach((row, y) => {
      for (let x = 0; x < frames; x += 1) {
        painter.globalAlpha = Math.min(1, song.scores[x * song.targets.length + y] / 255 / highest);
        painter.fillRect(x, y, 1, 1);
      }
    });
  };

  let position = 0;
  const move = (seconds) => {
    position = Math.min(song.duration_s, Math.max(0, seconds));
    cursor.style.left = percent(position / song.duration_s);
    slider.setAttribute("aria-valuenow", String(Math.round(position)));
    slider.setAttribute("aria-valuetext", `${clock(position)} of ${clock(song.duration_s)}`);
  };
  slider.addEventListener("click", (event) => {
    const box = slider.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * song.duration_s);
  });
  const steps = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageUp: 30, PageDown: -30, Home: -Infinity, End: Infinity };
  slider.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    seek(Math.min(song.duration_s, Math.max(0, position + steps[event.key])));
  });
  move(0);

  const node = element(
    "div",
    { class: "jm-timeline" },
    names,
    slider,
    element("div", { class: "jm-scale" }, element("span", {}, String(low)), element("i", {}), element("span", {}, (low + highest * (high - low)).toFixed(2))),
    axis,
  );
  const showWhy = (stretches) =>
    why.replaceChildren(...stretches.map(([start, end]) => element("i", { style: `left:${percent(start / song.duration_s)};width:${percent((end - start) / song.duration_s)}` })));
  const showSpectrogram = (bytes) => {
    picture.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    picture.hidden = false;
    return () => URL.revokeObjectURL(picture.src);
  };
  return { node, draw, move, showWhy, showSpectrogram };
};

// The valence/arousal plane, (-1 ... 1) on both axes: a point for the song, a faint line for its course.
const PLANE = 180;
const toPixels = ([valence, arousal]) => [((valence + 1) / 2) * PLANE, ((1 - arousal) / 2) * PLANE];
const plane = (description) => {
  const corners = [["tense", 4, 14, "start"], ["excited", PLANE - 4, 14, "end"], ["sad", 4, PLANE - 6, "start"], ["calm", PLANE - 4, PLANE - 6, "end"]];
  const svg = element(
    "svg",
    { viewBox: `-1 -1 ${PLANE + 2} ${PLANE + 2}`, class: "jm-plane", role: "img", "aria-label": description },
    element("rect", { x: 0, y: 0, width: PLANE, height: PLANE, rx: 8, class: "jm-plane-box" }),
    element("line", { x1: 0, x2: PLANE, y1: PLANE / 2, y2: PLANE / 2 }),
    element("line", { y1: 0, y2: PLANE, x1: PLANE / 2, x2: PLANE / 2 }),
    ...corners.map(([word, x, y, anchor]) => element("text", { x, y, "text-anchor": anchor }, word)),
  );
  return svg;
};

const songOnPlane = (song) => {
  const { valence, arousal } = song.place;
  const label = `valence ${valence.toFixed(2)}, arousal ${arousal.toFixed(2)}`;
  const svg = plane(`On the plane of valence (left to right) and arousal (bottom to top): ${label}`);
  const course = song.course;
  if (course.length > 1) svg.append(element("path", { class: "jm-course", d: course.map((point, n) => `${n ? "L" : "M"}${toPixels(point).map((v) => v.toFixed(1)).join(" ")}`).join("") }));
  const [x, y] = toPixels([valence, arousal]);
  svg.append(element("circle", { cx: x, cy: y, r: 6, class: "jm-point" }));
  const now = element("circle", { cx: x, cy: y, r: 4, class: "jm-now" });
  if (course.length > 1) svg.append(now);
  const move = (seconds) => {
    if (course.length < 2) return;
    const at = Math.max(0, Math.min(course.length - 1, (seconds / song.duration_s) * course.length - 0.5)); // a point is the middle of its stretch
    const [before, after] = [course[Math.floor(at)], course[Math.ceil(at)]];
    const [cx, cy] = toPixels(before.map((value, axis) => value + (at % 1) * (after[axis] - value)));
    now.setAttribute("cx", cx);
    now.setAttribute("cy", cy);
  };
  const node = element("figure", { class: "jm-figure" }, svg, element("figcaption", {}, `${label} (${song.place_source})`));
  return { node, move };
};
