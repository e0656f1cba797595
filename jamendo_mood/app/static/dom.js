// Small helpers. Text from outside is shown as text, never as HTML.

const element = (name, attributes = {}, ...children) => {
  const svg = ["svg", "circle", "line", "path", "text", "rect", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key === "style") node.style.cssText = value; // as an attribute, the page's Content-Security-Policy forbids it
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
};

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

const bytesOf = (view) => new Uint8Array(view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view);

const saveAs = (name, bytes) => {
  const url = URL.createObjectURL(new Blob([bytes]));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
};

const unique = (() => {
  let count = 0;
  const run = Math.random().toString(36).slice(2, 10);
  return () => `${run}-${(count += 1)}`;
})();

// Redraws canvases when the theme turns light or dark, whatever turned it.
const onTheme = (redraw, signal) => {
  const query = window.matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", redraw, { signal });
  const observer = new MutationObserver(redraw);
  const attributeFilter = ["class", "theme", "data-jp-theme-light", "data-vscode-theme-kind"];
  for (const node of [document.documentElement, document.body]) observer.observe(node, { attributeFilter });
  signal?.addEventListener("abort", () => observer.disconnect());
};

// Sound comes from Python in small pieces, one asked for after the other, so that other messages get through.
const soundFetcher = (model) => {
  const waiting = new Map();
  model.on("msg:custom", (message, buffers) => {
    if (message.type !== "piece" || !waiting.has(message.key)) return;
    const { pieces, resolve } = waiting.get(message.key);
    if (message.index !== pieces.length) return; // another view asked for it
    if (buffers.length) pieces.push(bytesOf(buffers[0]));
    if (message.last) {
      waiting.delete(message.key);
      resolve({ url: pieces.length ? URL.createObjectURL(new Blob(pieces, { type: "audio/mpeg" })) : null, why: message.why });
    } else model.send({ type: "piece", key: message.key, index: pieces.length });
  });
  const urls = new Map();
  return (key) => {
    if (!urls.has(key)) {
      urls.set(key, new Promise((resolve) => waiting.set(key, { pieces: [], resolve })));
      model.send({ type: "piece", key, index: 0 });
    }
    return urls.get(key);
  };
};

// One row in a list of tracks: a button that plays an excerpt, the track's name, its key and a note.
const trackRow = (track, fetchSound, extra) => {
  const audio = element("audio", { preload: "none" });
  const title = element("span", {});
  const note = element("small", {});
  const button = element("button", { class: "jm-round" });
  const show = (playing) => {
    button.textContent = playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", `${playing ? "Stop" : "Play an excerpt of"} ${title.textContent}`);
  };
  const rename = (named) => {
    title.textContent = named.title ? [named.artist, named.title].filter(Boolean).join(" – ") : named.key;
    note.textContent = [named.title ? named.key : null, named.note].filter(Boolean).join(" · ");
    show(!audio.paused);
  };
  rename(track);
  const trouble = element("small", { class: "jm-trouble", role: "status" });
  audio.addEventListener("error", () => (button.setAttribute("disabled", ""), trouble.replaceChildren("can't be played: this browser has no way to decode it")));
  let loading = false;
  button.addEventListener("click", async () => {
    if (!audio.paused) return audio.pause();
    if (loading) return;
    if (!audio.src) {
      loading = true;
      button.textContent = "…";
      const { url, why } = await fetchSound(track.key);
      loading = false;
      show(false);
      if (!url) return button.setAttribute("disabled", ""), trouble.replaceChildren(`can't be played: ${why}`);
      audio.src = url;
    }
    if (!button.isConnected) return; // other tracks are shown by now: nobody could stop it
    for (const other of button.getRootNode().querySelectorAll("audio")) if (other !== audio) other.pause();
    audio.play().catch(() => show(false)); // Safari wants another click if loading took long
  });
  for (const [event, playing] of [["play", true], ["pause", false], ["ended", false]])
    audio.addEventListener(event, () => show(playing));
  const row = element(
    "li",
    { class: "jm-track", "data-key": track.key },
    track.playable ? button : element("span", { class: "jm-round jm-none", title: "its audio is not available here" }, "♪"),
    element("span", { class: "jm-track-name" }, title, note, trouble),
    extra,
    audio,
  );
  return Object.assign(row, { rename });
};

// On the web page: a heading with tabs, and the visitor's light or dark theme.
const pageHeader = (tabs, root) => {
  if (!tabs.length) return [];
  document.documentElement.classList.add("jm-page");
  root.classList.add("jm-on-page");
  const here = (address) => new URL(address, location.href).pathname === location.pathname;
  const links = tabs.map(([title, address]) => element("a", { href: address, "aria-current": here(address) ? "page" : undefined }, title));
  return [element("header", { class: "jm-head" }, element("h1", {}, "Mood of music"), tabs.length > 1 ? element("nav", { "aria-label": "Pages" }, ...links) : null)];
};
