// The widget that finds music by mood: sliders, a point or a path on the plane, an emotion on Plutchik's wheel.

const LEVELS = [[0.95, "the most"], [0.65, "a lot"], [0.35, "medium"], [0.05, "a little"], [-1, "the least"]];
const levelName = (level) => LEVELS.find(([from]) => level >= from)[1];
const HUES = { joy: 48, trust: 90, fear: 140, surprise: 190, sadness: 215, disgust: 290, anger: 5, anticipation: 28 };

const moodSliders = (moods, ask) => {
  const wanted = new Map();
  const sliders = element("div", {});
  const chips = element("div", { class: "jm-chips", role: "group", "aria-label": "Moods to ask for" });
  const askForAll = () => wanted.size && ask({ mode: "moods", wanted: Object.fromEntries(wanted) });
  const show = () => {
    sliders.replaceChildren(
      ...[...wanted].map(([tag, level]) => {
        const id = unique();
        const output = element("output", { for: id }, `${level.toFixed(2)} ${levelName(level)}`);
        const input = element("input", { id, type: "range", min: "0", max: "1", step: "0.05", value: String(level), "aria-label": `How much ${tag}` });
        input.addEventListener("input", () => {
          wanted.set(tag, Number(input.value));
          output.textContent = `${Number(input.value).toFixed(2)} ${levelName(Number(input.value))}`;
        });
        input.addEventListener("change", askForAll);
        return element("div", { class: "jm-wish" }, element("label", { for: id }, tag), input, output);
      }),
    );
  };
  for (const mood of moods) {
    const weak = DOUBTFUL[mood.reliability];
    const chip = element("button", { "aria-pressed": "false", title: weak }, mood.tag, weak ? element("em", { class: "jm-weak" }, mood.reliability) : null);
    chip.addEventListener("click", () => {
      if (!wanted.delete(mood.tag)) wanted.set(mood.tag, 1);
      chip.setAttribute("aria-pressed", String(wanted.has(mood.tag)));
      show();
      askForAll();
    });
    chips.append(chip);
  }
  return element("div", {}, element("p", { class: "jm-hint" }, "Choose moods, then set how much of each: 1 is the most of all tracks here, 0 the least."), chips, sliders);
};

// A click sets the point; another adds a corner to the path. The arrow keys move the last point.
const planePicker = (setup, ask) => {
  const svg = plane("The plane of valence (left to right) and arousal (bottom to top); use the arrow keys to move the point");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  const dots = element("g", {}, ...setup.points.map((point) => element("circle", { class: "jm-dot", cx: toPixels(point)[0], cy: toPixels(point)[1], r: 1.2 })));
  const path = element("path", { class: "jm-way", d: "" });
  const corners = element("g", {});
  svg.append(dots, path, corners);
  let points = [];
  const hint = element("p", { class: "jm-hint", "aria-live": "polite" }, "Click for the tracks nearest to a point. Click again for a path from there: a playlist that goes from mood to mood.");
  const show = () => {
    path.setAttribute("d", points.map((point, n) => `${n ? "L" : "M"}${toPixels(point).join(" ")}`).join(""));
    corners.replaceChildren(...points.map((point) => element("circle", { class: "jm-way-point", cx: toPixels(point)[0], cy: toPixels(point)[1], r: 5 })));
    hint.textContent = points.length ? points.map(([v, a]) => `valence ${v.toFixed(2)}, arousal ${a.toFixed(2)}`).join(" → ") : "Click for the tracks nearest to a point.";
  };
  const showAndAsk = () => {
    show();
    if (points.length) ask({ mode: "plane", points });
  };
  const inside = (value) => Math.max(-1, Math.min(1, Math.round(value * 100) / 100));
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    points = [...points, [inside(((event.clientX - box.left) / box.width) * 2 - 1), inside(1 - ((event.clientY - box.top) / box.height) * 2)]];
    showAndAsk();
  });
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const [valence, arousal] = points.pop() ?? [0, 0];
    points.push([inside(valence + steps[event.key][0]), inside(arousal + steps[event.key][1])]);
    showAndAsk();
  });
  const clear = element("button", { class: "jm-button", onclick: () => ((points = []), show()) }, "Start again");
  return element("div", {}, svg, hint, clear);
};

// Remembered emotions, the latest to the right: valence and arousal as two curves, and a button to forget them.
const moodCurve = (wishes, forget) => {
  if (!wishes.length) return [];
  const at = (n, name) => [(wishes.length > 1 ? (n / (wishes.length - 1)) * 200 - 100 : 0).toFixed(1), (-30 * wishes[n][name]).toFixed(1)];
  const last = wishes[wishes.length - 1].emotion;
  const svg = element("svg", { viewBox: "-104 -34 208 68", class: "jm-curve", role: "img", "aria-label": `Valence and arousal of the last ${wishes.length} emotions you asked for; the latest is ${last}` });
  for (const name of ["valence", "arousal"]) {
    svg.append(element("path", { class: `jm-${name}`, d: wishes.map((_, n) => `${n ? "L" : "M"}${at(n, name).join(" ")}`).join("") }));
    svg.append(...wishes.map((_, n) => element("circle", { class: `jm-${name}`, cx: at(n, name)[0], cy: at(n, name)[1], r: 1.6 })));
  }
  const legend = element("p", { class: "jm-hint" }, "What you asked for, the latest to the right: ", element("span", { class: "jm-valence" }, "valence"), " and ", element("span", { class: "jm-arousal" }, "arousal (dashed)"), ". ");
  return [svg, legend, element("button", { class: "jm-button", onclick: forget }, "Forget all of it")];
};

// One ring per intensity, the strongest in the middle. Two emotions make a path from one to the other.
const emotionWheel = (setup, ask, memory) => {
  const radii = { 3: [12, 42], 2: [42, 76], 1: [76, 100] };
  const svg = element("svg", { viewBox: "-104 -104 208 208", class: "jm-wheel", role: "group", "aria-label": "Plutchik's wheel of emotions" });
  const hint = element("p", { class: "jm-hint", "aria-live": "polite" }, "Choose an emotion; choose a second for a path from one to the other.");
  const outlines = element("g", { "aria-hidden": "true" });
  let chosen = [];
  const at = (radius, degrees) => [radius * Math.sin((degrees * Math.PI) / 180), -radius * Math.cos((degrees * Math.PI) / 180)].map((v) => v.toFixed(2)).join(" ");
  const pieces = setup.emotions.map((emotion) => {
    const [inner, outer] = radii[emotion.intensity];
    const [from, to] = [emotion.angle_deg - 22.5, emotion.angle_deg + 22.5];
    const piece = element("path", {
      d: `M${at(inner, from)}L${at(outer, from)}A${outer} ${outer} 0 0 1 ${at(outer, to)}L${at(inner, to)}A${inner} ${inner} 0 0 0 ${at(inner, from)}Z`,
      fill: `hsl(${HUES[emotion.family]} 70% ${{ 3: 52, 2: 66, 1: 80 }[emotion.intensity]}%)`,
      role: "button", tabindex: "0", "aria-label": emotion.name, "aria-pressed": "false",
    });
    const choose = () => {
      chosen = chosen.length === 1 && chosen[0] !== emotion ? [chosen[0], emotion] : [emotion];
      pieces.forEach((other, n) => other.setAttribute("aria-pressed", String(chosen.includes(setup.emotions[n]))));
      // Outlines lie above all pieces: neighbours would cover half of a piece's own stroke.
      outlines.replaceChildren(...pieces.filter((_, n) => chosen.includes(setup.emotions[n])).map((own) => element("path", { class: "jm-outline", d: own.getAttribute("d") })));
      hint.textContent = chosen.map(({ name }) => name).join(" → ");
      ask({ mode: "plane", points: chosen.map(({ valence, arousal }) => [valence, arousal]), emotion: emotion.name, remember: memory.box.checked });
    };
    piece.addEventListener("click", choose);
    piece.addEventListener("keydown", (event) => {
      if (!["Enter", " "].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      choose();
    });
    return piece;
  });
  const labels = setup.emotions.map((emotion) => {
    const [inner, outer] = radii[emotion.intensity];
    const [x, y] = at((inner + outer) / 2 + 1, emotion.angle_deg).split(" ").map(Number);
    let turn = emotion.angle_deg % 180;
    if (turn > 90) turn -= 180;
    return element("text", { transform: `translate(${x} ${y + 2}) rotate(${emotion.intensity === 3 ? turn - Math.sign(turn || 1) * 90 : turn})`, style: emotion.intensity === 3 ? "font-size:4.9px" : "font-size:6.2px" }, emotion.name);
  });
  svg.append(...pieces, ...labels, outlines);
  if (!setup.remembers) return element("div", {}, svg, hint);
  return element("div", {}, svg, hint, element("label", { class: "jm-hint" }, memory.box, " remember what I ask for, on this machine"), memory.curve);
};

const renderFinding = ({ model, el }) => {
  const root = element("div", { class: "jm jm-find" });
  el.append(root);
  const fetchSound = soundFetcher(model);
  const results = element("section", { "aria-label": "Playlist" });
  let count = 20;
  let last = null;
  const view = unique();
  const memory = { box: element("input", { type: "checkbox" }), curve: element("div", {}) };
  const ask = (query) => {
    last = { ...query, remember: false }; // the same query with another count is not remembered again
    model.send({ type: "query", ...query, count });
  };

  const setUp = (setup) => {
    const modes = [["Moods", () => moodSliders(setup.moods, ask)]];
    if (setup.plane) modes.push(["Valence and arousal", () => planePicker(setup, ask)], ["Emotions", () => emotionWheel(setup, ask, memory)]);
    const panel = element("div", { role: "tabpanel", id: unique() });
    const tabs = modes.map(([title, build]) => {
      const tab = element("button", { role: "tab", "aria-selected": "false", "aria-controls": panel.id }, title);
      let content = null; // built once, so that choices stay when tabs change
      tab.addEventListener("click", () => {
        tabs.forEach((other) => {
          other.setAttribute("aria-selected", String(other === tab));
          other.setAttribute("tabindex", other === tab ? "0" : "-1");
        });
        panel.replaceChildren((content ??= build()));
      });
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        const other = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
        other.focus();
        other.click();
      });
      return tab;
    });
    const number = element("input", { type: "number", min: "1", max: "200", value: String(count), class: "jm-path", style: "width:80px" });
    number.addEventListener("keydown", (event) => event.stopPropagation());
    number.addEventListener("change", () => {
      count = Math.max(1, Math.min(200, Number(number.value) || 20));
      number.value = String(count);
      if (last) ask(last);
    });
    const top = element("div", { class: "jm-card" }, element("div", { class: "jm-modes", role: "tablist" }, ...tabs), panel);
    root.replaceChildren(...pageHeader(setup.page, root), top, element("div", { class: "jm-row", style: "margin-top:14px" }, element("label", {}, "Tracks ", number), element("span", { class: "jm-hint" }, `of ${setup.tracks.toLocaleString("en")} in the library`)), results);
    tabs[0].click();
  };

  let shown = 0;
  const show = (message) => {
    if (message.number === shown) return rename(message.tracks); // the same tracks, now with their names
    shown = message.number;
    const save = (format, title) => element("button", { class: "jm-button", onclick: () => model.send({ type: "save", format, view }) }, title);
    const rows = message.tracks.map((track) => {
      const more = element("button", { class: "jm-more", "aria-label": `More like ${track.title || track.key}`, onclick: () => ((wantsFocus = true), ask({ mode: "similar", key: track.key })) }, "more like this");
      return trackRow(track, fetchSound, element("span", { class: "jm-row" }, element("span", { class: "jm-fit", title: "how close it is to what you asked for; 1 is an exact match" }, track.fit.toFixed(2)), more));
    });
    results.replaceChildren(
      element(
        "div",
        { class: "jm-card" },
        element("h2", { tabindex: "-1" }, message.title),
        element("p", { class: "jm-about", role: "status" }, `${message.tracks.length} tracks, found in ${message.ms.toFixed(0)} ms`),
        element("ol", { class: "jm-tracks" }, ...rows),
        element("footer", { class: "jm-row" }, element("span", {}, "Download"), ...message.formats.map((format) => save(format, format.toUpperCase()))),
      ),
    );
  };

  let wantsFocus = false;
  const rename = (tracks) => {
    for (const track of tracks) {
      const row = results.querySelector(`[data-key="${CSS.escape(track.key)}"]`);
      row?.rename(track);
    }
    const heading = results.querySelector("h2");
    if (wantsFocus) heading.focus(); // the pressed button is gone
    wantsFocus = false;
  };

  const handlers = {
    setup: setUp,
    results: show,
    history: (message) => memory.curve.replaceChildren(...moodCurve(message.wishes, () => model.send({ type: "forget" }))),
    failed: (message) => results.replaceChildren(element("div", { class: "jm-card jm-failed", role: "alert" }, element("strong", {}, message.sentence))),
    file: (message, buffers) => saveAs(message.name, bytesOf(buffers[0])),
  };
  model.on("msg:custom", (message, buffers) => {
    if (!message.view || message.view === view) handlers[message.type]?.(message, buffers);
  });
  model.send({ type: "hello", view });
};
