// The widget that tags songs. Python says what is true, this shows it; see `widget.py` for the messages.

const FILES = new Map(); // of each upload, while the page is open: the player plays the browser's own copy

const renderTagging = ({ model, el, signal }) => {
  const cards = new Map();
  const list = element("div", { class: "jm-songs" });
  const top = element("div", {});
  const status = element("p", { class: "jm-hidden", role: "status", "aria-live": "polite" });
  const root = element("div", { class: "jm" }, top, list, status);
  el.append(root);
  const fetchSound = soundFetcher(model);

  const remove = (id) => {
    uploads.drop(id);
    model.send({ type: "remove", id });
    cards.get(id)?.node.remove();
    cards.delete(id);
    FILES.delete(id);
  };
  const card = (id, name) => {
    if (!cards.has(id)) {
      const made = songCard(model, id, name, fetchSound, remove);
      made.file = FILES.get(id);
      made.cancel = () => {
        const began = !uploads.has(id) || made.began;
        uploads.drop(id);
        if (began) model.send({ type: "cancel", id });
        made.cancelled();
      };
      cards.set(id, made);
      list.prepend(made.node);
    }
    return cards.get(id);
  };
  const uploads = uploader(
    model,
    (file, id) => {
      FILES.set(id, file);
      card(id, file.name).waiting();
    },
    (id, bytes) => {
      const { file } = cards.get(id) ?? {};
      if (!file) return;
      cards.get(id).began = true;
      card(id).progress("upload", file.size ? bytes / file.size : 1, `${megabytes(bytes)} of ${megabytes(file.size)}`);
    },
  );

  const heard = {
    setup: (message) => {
      top.replaceChildren(...pageHeader(message.page, root), dropZone(model, message, uploads.add));
    },
    progress: (message) => card(message.id, message.name).working(message),
    tags: (message, buffers) => {
      card(message.id, message.name).tagged({ ...message, scores: bytesOf(buffers[0]) });
      performance.mark("jm-tagged");
      status.textContent = `${message.name}: moods are there.`;
    },
    details: (message, buffers) => card(message.id, message.name).details({ ...message, picture: buffers.length ? bytesOf(buffers[0]) : null }),
    failed: (message) => {
      card(message.id, message.name).failed(message.sentence, message.advice);
      status.textContent = message.sentence;
    },
    cancelled: (message) => cards.get(message.id)?.cancelled(),
    file: (message, buffers) => saveAs(message.name, message.media, bytesOf(buffers[0])),
  };
  model.on("msg:custom", (message, buffers) => heard[message.type]?.(message, buffers));
  onTheme(() => cards.forEach((made) => made.redraw?.()), signal);
  model.send({ type: "hello" });
};
