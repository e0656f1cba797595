// The card of one song: progress while it is analysed, then its moods, or what went wrong.

const STAGES = [["upload", "Upload"], ["decode", "Decode"], ["embed", "Analyse"], ["score", "Score"]];
const ROWS = 10;

const songCard = ({ model, view, formats, fetchSound, close }, id, name) => {
  const title = element("h2", { tabindex: "-1" }, name);
  const about = element("p", { class: "jm-about" });
  const remove = element("button", { class: "jm-close", "aria-label": `Remove ${name}`, title: "Remove", onclick: () => close(id) }, "✕");
  const body = element("div", { class: "jm-body" });
  const node = element("article", { class: "jm-card", "aria-label": name }, element("header", {}, element("div", {}, title, about), remove), body);
  const card = { id, node, name, file: null };
  const onClose = [];
  card.open = () => (node.scrollIntoView(), title.focus({ preventScroll: true }));
  card.close = () => {
    onClose.forEach((act) => act());
    node.remove();
  };

  // ---- while it works
  const steps = element("ol", { class: "jm-steps" }, ...STAGES.map(([stage, title]) => element("li", { "data-stage": stage }, title)));
  const bar = element("div", { class: "jm-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": `Progress of ${name}` }, element("span", {}));
  const note = element("p", { class: "jm-note" });
  const cancel = element("button", { class: "jm-button", onclick: () => card.cancel() }, "Cancel");
  const working = element("div", { class: "jm-working" }, steps, bar, element("div", { class: "jm-row" }, note, cancel));

  card.progress = (stage, share, text) => {
    if (body.firstChild !== working) body.replaceChildren(working);
    const reached = STAGES.findIndex(([known]) => known === stage);
    [...steps.children].forEach((step, number) => {
      step.className = number < reached ? "jm-done" : number === reached ? "jm-current" : "";
    });
    bar.classList.toggle("jm-unknown", share === null);
    bar.firstChild.style.width = share === null ? "" : percent(share);
    if (share === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    note.textContent = text;
  };
  card.waiting = () => card.progress("upload", null, "waiting for its turn");
  card.working = ({ stage, done_s, total_s, speed }) => {
    const pace = speed ? ` · ${speed < 10 ? speed.toFixed(1) : Math.round(speed)}× real time` : "";
    if (stage === "queue") card.progress("decode", null, "waiting for the song before it");
    else if (stage === "load") card.progress("decode", null, "loading the network, which takes a moment the first time");
    else if (stage === "decode") card.progress("decode", null, "decoding");
    else if (stage === "embed") card.progress("embed", total_s ? done_s / total_s : null, `${clock(done_s)}${total_s ? ` of ${clock(total_s)}` : ""}${pace}`);
    else card.progress("score", 1, `scoring${pace}`);
  };

  const finish = (...children) => {
    body.replaceChildren(element("div", { class: "jm-message", role: "alert" }, ...children));
  };
  card.failed = (sentence, advice) => {
    node.classList.add("jm-failed");
    finish(element("strong", {}, sentence), advice ? element("p", {}, advice) : null);
  };
  card.cancelled = () => finish(element("strong", {}, "Cancelled."), element("p", {}, "Nothing of it was kept."));

  // ---- when its moods are known
  card.tagged = (song) => {
    card.song = song;
    title.textContent = song.title || song.name;
    about.textContent = [song.artist, clock(song.duration_s), song.title ? song.name : null, song.remark].filter(Boolean).join(" · ");
    const shown = song.targets.slice(0, ROWS);
    const player = makePlayer(card, song, fetchSound);
    onClose.push(player.close);
    const seek = (seconds) => player.seek(seconds);
    const line = timeline(song, shown, seek);
    const why = element("p", { class: "jm-why", "aria-live": "polite" }, song.words.choose);
    const choose = (tag) => {
      bars.press(tag);
      const stretches = song.why && (song.why[tag] ?? []);
      line.showWhy(stretches ?? []);
      if (!stretches) return why.replaceChildren("Still working out what carried it …"), (card.asked = tag);
      if (!stretches.length) return why.replaceChildren(`Nothing in particular: ${tag} ${song.words.nothing}.`);
      const jumps = stretches.map(([start, end]) => element("button", { class: "jm-jump", "aria-label": `Play from ${clock(start)}`, onclick: () => (seek(start), player.play()) }, `${clock(start)}–${clock(end)}`));
      why.replaceChildren(element("b", {}, tag), ` ${song.words.carried} `, ...jumps);
    };
    const bars = tagBars(song, shown, choose);
    const onPlane = song.place ? songOnPlane(song) : null;
    player.onMove((seconds) => {
      line.move(seconds);
      onPlane?.move(seconds);
    });

    const save = (format, title) => element("button", { class: "jm-button", onclick: () => model.send({ type: "save", id, format, view }) }, title);
    const similar = element("section", { class: "jm-similar" });
    card.details = (details) => {
      song.why = details.why;
      if (details.picture) onClose.push(line.showSpectrogram(details.picture));
      if (card.asked) choose(card.asked), (card.asked = null);
      if (details.similar?.length) similar.replaceChildren(
        element("h3", {}, "Similar tracks of the library"),
        ...(details.left_out ? [element("p", { class: "jm-hint" }, details.left_out)] : []),
        element("ol", { class: "jm-tracks" }, ...details.similar.map((track) => trackRow(track, fetchSound))),
        element("div", { class: "jm-row jm-playlist" }, element("span", {}, "Playlist of similar tracks"), ...formats.map((format) => element("button", { class: "jm-button", "aria-label": `Playlist of similar tracks as ${format.toUpperCase()}`, onclick: () => model.send({ type: "playlist", id, format, view }) }, format.toUpperCase()))),
      );
    };
    body.replaceChildren(
      element("p", { class: "jm-mood" }, song.mood),
      player.node,
      element("div", { class: "jm-grid" }, element("section", {}, bars.node, element("p", { class: "jm-legend" }, song.words.legend)), onPlane?.node),
      why,
      line.node,
      similar,
      element("footer", { class: "jm-row" }, element("span", {}, "Download"), save("csv", "CSV"), save("json", "JSON"), save("png", "PNG")),
    );
    line.draw();
    card.redraw = line.draw;
  };
  return card;
};

// Plays the browser's own file if it was uploaded, else what Python sends.
const makePlayer = (card, song, fetchSound) => {
  const audio = element("audio", { controls: true, preload: "metadata", "aria-label": `Player of ${song.name}` });
  const trouble = element("p", { class: "jm-hint", role: "status", hidden: true });
  const fail = (why) => {
    audio.hidden = true;
    trouble.hidden = false;
    trouble.textContent = `It can't be played: ${why}. Its moods are correct anyway.`;
  };
  const listeners = [];
  let pending = null;
  if (card.file) audio.src = URL.createObjectURL(card.file);
  else if (song.playable) fetchSound(card.id).then(({ url, why }) => (url ? (audio.src = url) : fail(why)));
  else fail("its file was only in the browser's window that sent it");
  audio.addEventListener("error", () => fail("this browser has no way to decode it"));
  const report = (seconds) => listeners.forEach((listener) => listener(seconds));
  const follow = () => {
    report(audio.currentTime);
    if (!audio.paused && audio.isConnected) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => {
    for (const other of audio.getRootNode().querySelectorAll("audio")) if (other !== audio) other.pause();
    follow();
  });
  audio.addEventListener("seeked", () => report(audio.currentTime));
  audio.addEventListener("loadedmetadata", () => {
    if (pending !== null) audio.currentTime = pending;
    pending = null;
  });
  return {
    node: element("div", { class: "jm-player" }, audio, trouble),
    seek: (seconds) => {
      report(seconds);
      if (audio.readyState > 0) audio.currentTime = seconds;
      else pending = seconds;
    },
    play: () => audio.play().catch(() => {}),
    onMove: (listener) => listeners.push(listener),
    close: () => {
      audio.pause();
      URL.revokeObjectURL(audio.src);
    },
  };
};
