// <ip-recordings>: speak to the agent with a file, picked from the examples, uploaded or dropped.
// Fires `play` with { title, bytes }, `stop`, and `monitor` with { audible }.

const MAX_BYTES = 50 * 1024 * 1024;

class Recordings extends HTMLElement {
  connectedCallback() {
    this.innerHTML =
      '<ul></ul><label class="drop">Drop a sound file here, or <u>choose one</u>' +
      '<input class="hidden" type="file" accept="audio/*,.wav,.flac,.ogg,.mp3,.m4a" /></label>' +
      '<label class="hear"><input type="checkbox" checked />Let me hear it too</label>';
    this.list = this.querySelector("ul");
    const drop = this.querySelector(".drop");
    const input = drop.querySelector("input");
    input.onchange = () => {
      if (input.files[0]) this.playFile(input.files[0]);
      input.value = "";
    };
    for (const kind of ["dragover", "dragleave", "drop"])
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) this.playFile(event.dataTransfer.files[0]);
      });
    this.querySelector(".hear input").onchange = (event) => this.fire("monitor", { audible: event.target.checked });
    this.load();
  }

  fire(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  async load() {
    let examples = [];
    try {
      const answer = await fetch("/examples");
      if (answer.ok) examples = await answer.json();
    } catch {
      // no examples: uploading still works
    }
    for (const { file, title, expect } of examples) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.title = title;
      button.setAttribute("aria-pressed", "false");
      const name = document.createElement("b");
      name.textContent = title;
      const what = document.createElement("span");
      what.textContent = expect;
      button.append(name, what);
      button.onclick = () => (button.getAttribute("aria-pressed") === "true" ? this.fire("stop") : this.playExample(file, title));
      item.append(button);
      this.list.append(item);
    }
  }

  async playExample(file, title) {
    const answer = await fetch(`/examples/${encodeURIComponent(file)}`);
    if (!answer.ok) return this.fire("problem", { message: `The recording “${title}” could not be loaded.` });
    this.fire("play", { title, bytes: await answer.arrayBuffer() });
  }

  async playFile(file) {
    if (file.size > MAX_BYTES)
      return this.fire("problem", { message: `“${file.name}” is larger than 50 MB. Choose a shorter recording.` });
    if (!file.size) return this.fire("problem", { message: `“${file.name}” is empty. Choose another recording.` });
    this.fire("play", { title: file.name, bytes: await file.arrayBuffer() });
  }

  mark(title) {
    for (const button of this.list.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button.dataset.title === title));
  }
}

customElements.define("ip-recordings", Recordings);
