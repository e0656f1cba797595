// Uploads in pieces: notebooks' websockets refuse messages of 10 MB, Colab's of 1 MB.

const PIECE_BYTES = 512 * 1024;
const PIECES_IN_FLIGHT = 4;

const SONGS_AHEAD = 3; // sent while others are analysed: the rest wait in the browser, and take no room elsewhere

// Sends files one after the other. Calls `shown(file, id)` first, `moved(id, bytes)` when Python has received more, and
// `lost(id)` if a file can't be read any more.
const uploader = (model, { shown, moved, lost }) => {
  const queue = [];
  const sent = new Set();
  let current = null;

  const next = () => {
    if (current || !queue.length || sent.size >= SONGS_AHEAD) return;
    current = { ...queue.shift(), sent: 0, got: 0 };
    model.send({ type: "begin", id: current.id, name: current.file.name, size: current.file.size });
  };

  const push = async () => {
    const upload = current;
    while (current === upload && !upload.busy && upload.sent < upload.file.size && upload.sent - upload.got < PIECES_IN_FLIGHT * PIECE_BYTES) {
      upload.busy = true; // slices are read one at a time, to send them in order
      const start = upload.sent;
      try {
        const bytes = await upload.file.slice(start, start + PIECE_BYTES).arrayBuffer();
        if (current !== upload) return;
        model.send({ type: "chunk", id: upload.id, offset: start }, undefined, [bytes]);
        upload.sent = start + bytes.byteLength;
      } catch (error) {
        model.send({ type: "remove", id: upload.id });
        finish(upload.id);
        return lost(upload.id);
      }
      upload.busy = false;
    }
  };

  const finish = (id) => {
    if (current?.id === id) current = null;
    sent.delete(id);
    const index = queue.findIndex((upload) => upload.id === id);
    if (index >= 0) queue.splice(index, 1);
    next();
  };

  model.on("msg:custom", (message) => {
    if (message.type === "ack" && message.id === current?.id) {
      current.got = message.received;
      moved(message.id, message.received);
      if (message.complete) {
        performance.mark("jm-uploaded"); // to measure how long the rest takes
        sent.add(message.id);
        current = null;
        next();
      } else push();
    } else if (["tags", "failed", "cancelled", "removed"].includes(message.type)) finish(message.id);
  });

  return {
    add: (files) => {
      for (const file of files) {
        const id = unique();
        shown(file, id);
        queue.push({ file, id });
      }
      next();
    },
    drop: finish,
  };
};

// Where songs are dropped or chosen, or named by a path if Python allows it.
const dropZone = (model, setup, addFiles) => {
  const input = element("input", { type: "file", multiple: true, accept: setup.accept, class: "jm-hidden", id: unique() });
  input.addEventListener("change", () => {
    addFiles([...input.files]);
    input.value = ""; // so that choosing the same file again is noticed
  });
  const zone = element(
    "div",
    { class: "jm-drop" },
    element("p", { class: "jm-drop-title" }, "Drop songs here"),
    input,
    element("label", { for: input.id, class: "jm-button jm-main" }, "Choose files"),
    element("p", { class: "jm-hint" }, setup.hint),
  );
  if (setup.examples.length)
    zone.append(
      element("div", { class: "jm-chips", role: "group", "aria-label": "Songs to try" }, element("span", { class: "jm-hint" }, "or try one:"), ...setup.examples.map((name, number) => element("button", { onclick: () => model.send({ type: "example", number }) }, name))),
    );
  const dragged = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("jm-over", depth > 0);
  };
  zone.addEventListener("dragenter", (event) => dragged(event) && (event.preventDefault(), mark(1)));
  zone.addEventListener("dragleave", () => mark(-1));
  // Otherwise JupyterLab would open the file itself.
  zone.addEventListener("dragover", (event) => dragged(event) && (event.preventDefault(), event.stopPropagation()));
  zone.addEventListener("drop", (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    event.stopPropagation();
    mark(-depth);
    addFiles([...event.dataTransfer.files]);
  });
  if (setup.paths) {
    const path = element("input", { type: "text", class: "jm-path", placeholder: "or a path on this machine, then Enter", "aria-label": "Path of a song on the machine that runs Python", spellcheck: "false" });
    path.addEventListener("keydown", (event) => {
      event.stopPropagation(); // notebooks have one-letter shortcuts
      if (event.key !== "Enter" || !path.value.trim()) return;
      model.send({ type: "path", path: path.value.trim() });
      path.value = "";
    });
    zone.append(path);
  }
  return zone;
};
