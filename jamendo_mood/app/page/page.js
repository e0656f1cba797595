// Around the widget: the visitor's theme, a line while the page loads, and a notice when its kernel is gone.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = () => {
    document.body.dataset.jpThemeLight = String(!dark.matches);
    document.body.dataset.jpThemeName = dark.matches ? "JupyterLab Dark" : "JupyterLab Light";
    document.body.classList.toggle("theme-dark", dark.matches);
    document.body.classList.toggle("theme-light", !dark.matches);
  };
  colour();
  dark.addEventListener("change", colour);

  const say = (text) => {
    const line = document.getElementById("loading_text");
    if (line) line.textContent = text;
  };
  say("Loading ...");
  window.voila_process = () => {};

  const kernel = () => JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId;
  const cookie = () => (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || ["", ""])[1];

  // When a visitor leaves, the kernel's place is free for another.
  addEventListener("pagehide", () => {
    navigator.sendBeacon("/leave/" + kernel(), new URLSearchParams({ _xsrf: decodeURIComponent(cookie()) }));
  });

  let touched = true;
  for (const kind of ["pointerdown", "pointermove", "keydown", "drop", "wheel", "touchmove"]) {
    addEventListener(kind, () => { touched = true; }, { capture: true, passive: true });
  }
  const listening = () => [...document.querySelectorAll("audio")].some((player) => !player.paused);
  const notice = (text) => {
    const box = document.createElement("p");
    box.id = "notice";
    box.setAttribute("role", "alert");
    box.append(text);
    const button = document.createElement("button");
    button.textContent = "Reload";
    button.addEventListener("click", () => location.reload());
    box.append(button);
    document.body.append(box);
  };
  let failures = 0;
  const timer = setInterval(async () => {
    const active = touched || listening();
    touched = false;
    const status = await fetch(`/present/${kernel()}?active=${Number(active)}`).then((r) => r.status, () => 0);
    failures = status === 204 ? 0 : failures + 1;
    if (status === 404) notice("This page has been closed on the server: it was unused for too long, or something went wrong.");
    else if (failures >= 3) notice("The server does not answer any more.");
    else return;
    clearInterval(timer);
  }, 20000);
})();
