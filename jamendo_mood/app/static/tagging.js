// The widget that tags songs: it shows what Python reports; see `widget.py` for the messages.

const FILES = new Map(); // by upload, while the page is open: the player plays the browser's own copy

const renderTagging = ({ model, el, signal }) => {
  const cards = new Map();
  const list = element("div", { class: "jm-songs" });
  const table = comparison((id) => cards.get(id).open());
  const top = element("div", {});
  let formats = [];
  const status = element("p", { class: "jm-hidden", role: "status", "aria-live": "polite" });
  const root = element("div", { class: "jm" }, top, table.node, list, status);
  el.append(root);
  const fetchSound = soundFetcher(model);

  const gone = new Set(); // messages about these songs are ignored
  const view = unique();

  const drop = (id) => {
    gone.add(id);
    uploads.drop(id);
    cards.get(id)?.close();
    cards.delete(id);
    table.remove(id);
    FILES.delete(id);
  };
  const remove = (id) => {
    drop(id);
    model.send({ type: "remove", id });
    root.querySelector("input[type=file]")?.focus(); // the card had the keyboard's focus, and is gone
  };
  const card = (id, name) => {
    if (!cards.has(id)) {
      const made = songCard({ model, view, formats, fetchSound, close: remove }, id, name);
      made.file = FILES.get(id);
      made.cancel = () => {
        uploads.drop(id);
        model.send({ type: "cancel", id });
        made.cancelled();
      };
      cards.set(id, made);
      list.prepend(made.node);
    }
    return cards.get(id);
  };
  const uploads = uploader(model, {
    shown: (file, id) => {
      FILES.set(id, file);
      card(id, file.name).waiting();
    },
    moved: (id, bytes) => {
      const { file } = cards.get(id) ?? {};
      if (file) card(id).progress("upload", file.size ? bytes / file.size : 1, `${megabytes(bytes)} of ${megabytes(file.size)}`);
    },
    lost: (id) => {
      gone.add(id);
      cards.get(id).failed("It can't be read any more.", "Was it moved or deleted? Choose it again.");
    },
  });

  const handlers = {
    setup: (message) => {
      formats = message.formats;
      top.replaceChildren(...pageHeader(message.page, root), dropZone(model, message, uploads.add));
    },
    progress: (message) => {
      const made = card(message.id, message.name);
      if (!made.song) made.working(message);
    },
    tags: (message, buffers) => {
      if (cards.get(message.id)?.song) return; // it is shown already
      card(message.id, message.name).tagged({ ...message, scores: bytesOf(buffers[0]) });
      table.add(message.id, message);
      performance.mark("jm-tagged");
      status.textContent = `${message.name}: moods are ready.`;
    },
    details: (message, buffers) => cards.get(message.id)?.details?.({ ...message, picture: buffers.length ? bytesOf(buffers[0]) : null }),
    failed: (message) => {
      card(message.id, message.name).failed(message.sentence, message.advice);
      status.textContent = `${message.name}: ${message.sentence}`; // the card has its name above it
    },
    cancelled: (message) => cards.get(message.id)?.cancelled(),
    removed: (message) => drop(message.id),
    file: (message, buffers) => saveAs(message.name, bytesOf(buffers[0])),
  };
  model.on("msg:custom", (message, buffers) => {
    if (gone.has(message.id) || (message.view && message.view !== view)) return;
    handlers[message.type]?.(message, buffers);
  });
  onTheme(() => cards.forEach((made) => made.redraw?.()), signal);
  model.send({ type: "hello", view });
};
