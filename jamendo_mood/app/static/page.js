// The web page's way to Python: a websocket in place of a widget's messages. JSON, then as many frames as it says.

const RETRY_MS = 15_000;

const socketModel = (address, closed) => {
  const listeners = [];
  const early = []; // messages of the page's first moment
  const socket = new WebSocket(new URL(address, location.href.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  let message = null;
  let buffers = [];
  const deliver = () => {
    if (!message || buffers.length < message.buffers) return;
    const [whole, parts] = [message, buffers];
    [message, buffers] = [null, []];
    listeners.forEach((listener) => listener(whole, parts));
  };
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") message = JSON.parse(data);
    else buffers.push(new DataView(data));
    deliver();
  });
  const send = (content, _, parts = []) => {
    if (socket.readyState === WebSocket.CONNECTING) return void early.push([content, _, parts]);
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({ ...content, buffers: parts.length }));
    parts.forEach((part) => socket.send(part));
  };
  socket.addEventListener("open", () => early.splice(0).forEach((each) => send(...each)));
  socket.addEventListener("close", closed);
  return { send, on: (_, listener) => listeners.push(listener) };
};

const openPage = (address, render) => {
  const notice = (text) =>
    document.body.prepend(element("p", { class: "jm-notice", role: "alert" }, text, " ", element("button", { class: "jm-button", onclick: () => location.reload() }, "Reload")));
  let leaving = false;
  addEventListener("pagehide", () => (leaving = true));
  const model = socketModel(address, ({ code }) => {
    if (leaving) return;
    if (code === 1013) {
      notice("All places are taken. This page tries again in 15 seconds.");
      setTimeout(() => location.reload(), RETRY_MS);
    } else if (code === 4000) notice("This page was unused for too long, and its place was given to others.");
    else notice("The connection to the server is gone. What was shown here stays; for other songs, reload the page.");
  });
  let touched = true; // a visitor who neither moves nor listens gives the place back
  for (const kind of ["pointerdown", "pointermove", "keydown", "drop", "wheel", "touchmove"])
    addEventListener(kind, () => (touched = true), { capture: true, passive: true });
  setInterval(() => {
    if (touched || [...document.querySelectorAll("audio")].some((player) => !player.paused)) model.send({ type: "here" });
    touched = false;
  }, 20_000);
  render({ model, el: document.body });
};
