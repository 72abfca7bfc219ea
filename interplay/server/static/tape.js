// <ip-tape>: the live picture. Time runs to the right in 200 ms cells; the person above the line, the agent below it,
// each with the loudness of that slice and the words that fell into it. The vertical line is now.

const KEEP = 9000; // cells kept for looking back: half an hour
const QUIET_DB = -56;
const FULL_DB = -8;
const REACH = 62; // pixels of a bar at full loudness
const ROWS = 3;
const FRAME_MS = 31; // thirty pictures a second are smooth here and leave the processor to the sound

const height = (db) => Math.max(0, Math.min(1, (db - QUIET_DB) / (FULL_DB - QUIET_DB)));

class Tape extends HTMLElement {
  connectedCallback() {
    this.cells = [];
    this.back = 0; // seconds looked back; 0 is live
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute(
      "aria-label",
      "Live picture of both streams in cells of 200 milliseconds. The same words are in the list below. " +
        "Left and right arrow keys look back and forward.",
    );
    this.button = document.createElement("button");
    this.button.className = "back";
    this.button.textContent = "Back to now";
    this.button.hidden = true;
    this.button.onclick = () => this.look(0);
    this.append(this.canvas, this.button);
    this.context = this.canvas.getContext("2d");
    new ResizeObserver(() => this.resize()).observe(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.resize());
    this.canvas.onkeydown = (event) => {
      if (event.key === "ArrowLeft") this.look(this.back + 1);
      if (event.key === "ArrowRight") this.look(this.back - 1);
      if (event.key === "Escape" || event.key === "End") this.look(0);
    };
    this.canvas.onwheel = (event) => {
      if (Math.abs(event.deltaX) <= Math.abs(event.deltaY) || !this.cells.length) return;
      event.preventDefault();
      this.look(this.back - event.deltaX / (this.cell * 5));
    };
    this.canvas.onpointerdown = (event) => {
      this.drag = { x: event.clientX, back: this.back };
      this.canvas.setPointerCapture(event.pointerId);
    };
    this.canvas.onpointermove = (event) => {
      if (this.drag) this.look(this.drag.back + (event.clientX - this.drag.x) / (this.cell * 5));
    };
    this.canvas.onpointerup = this.canvas.onpointercancel = () => (this.drag = null);
  }

  // `now` gives session seconds for every picture; null stops the clock.
  start(now) {
    this.cells = [];
    this.example = false;
    this.now = now;
    this.look(0);
    cancelAnimationFrame(this.frame);
    let drawn = 0;
    const tick = (time) => {
      if (time - drawn >= FRAME_MS) {
        drawn = time;
        this.draw();
      }
      if (this.now) this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
  }

  // Before the first conversation: a drawing of one, so that the picture explains itself.
  show(cells, at) {
    this.cells = cells;
    this.example = true;
    this.now = null;
    this.still = at;
    this.draw();
  }

  stop() {
    this.still = this.now?.() ?? this.still;
    this.now = null;
    this.draw();
  }

  push(cell) {
    this.cells.push(cell);
    if (this.cells.length > KEEP + 500) this.cells.splice(0, 500);
  }

  look(back) {
    const live = this.cells.at(-1)?.t ?? 0;
    this.back = Math.max(0, Math.min(back, live));
    this.button.hidden = this.back === 0;
    if (!this.now) this.draw();
  }

  resize() {
    const scale = devicePixelRatio || 1;
    const box = this.getBoundingClientRect();
    this.width = box.width;
    this.tall = box.height;
    this.canvas.width = Math.round(box.width * scale);
    this.canvas.height = Math.round(box.height * scale);
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.cell = Math.max(17, Math.min(30, box.width / 42));
    const style = getComputedStyle(this);
    this.ink = {};
    for (const name of ["ink", "soft", "line", "ember", "ember-wash", "sea", "sea-wash", "paper", "sheet", "sans", "serif", "mono"])
      this.ink[name] = style.getPropertyValue(`--${name}`).trim();
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const { context: pen, width, tall, ink, cell } = this;
    const axis = Math.round(tall / 2);
    const live = this.now?.() ?? this.still ?? 0;
    const at = live - this.back;
    const nowX = Math.round(width * (width < 600 ? 0.8 : 0.74));
    const x = (t) => nowX + ((t - at) / 0.2) * cell;
    pen.clearRect(0, 0, width, tall);
    this.ruler(x, at, axis, nowX);
    const oldest = at - (nowX / cell) * 0.2 - 3;
    const newest = at + ((width - nowX) / cell) * 0.2 + 0.2;
    const shown = [];
    for (let i = this.cells.length - 1; i >= 0 && this.cells[i].t >= oldest; i--)
      if (this.cells[i].t <= newest) shown.push(this.cells[i]);
    shown.reverse();
    for (const one of shown) {
      this.bars(x(one.t), axis, -1, one.user_levels, ink.ember, ink["ember-wash"]);
      this.bars(x(one.t + 0.2), axis, 1, one.agent_levels, ink.sea, ink["sea-wash"]);
    }
    const heard = shown.flatMap((c) => (c.heard ? [{ t: c.t, word: c.heard }] : []));
    const said = shown.flatMap((c) => c.said.map(([word, t]) => ({ t, word })));
    this.words(heard, x, axis, -1, ink.ember, `500 17px ${ink.sans}`);
    this.words(said, x, axis, 1, ink.sea, `500 20px ${ink.serif}`);
    if (this.back === 0 && !this.example) {
      pen.fillStyle = ink.ink;
      pen.fillRect(nowX - 1, 24, 2, tall - 48);
      pen.font = `600 12px ${ink.sans}`;
      pen.textAlign = "center";
      pen.fillText("now", nowX, 17);
    }
    this.lanes(tall);
  }

  ruler(x, at, axis, nowX) {
    const { context: pen, width, tall, ink, cell } = this;
    pen.font = `11px ${ink.mono}`;
    pen.textAlign = "center";
    const first = Math.max(0, Math.floor(at - (nowX / cell) * 0.2));
    const last = Math.ceil(at + ((width - nowX) / cell) * 0.2);
    for (let s = first; s <= last; s++) {
      pen.fillStyle = ink.line;
      pen.fillRect(Math.round(x(s)), 26, 1, tall - 52);
      for (let k = 1; k < 5; k++) pen.fillRect(Math.round(x(s + k * 0.2)), axis - 4, 1, 8);
      if (this.example) continue;
      pen.fillStyle = s % 5 ? ink.soft : ink.ink;
      pen.fillText(s < 60 ? `${s}` : `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`, x(s), tall - 9);
    }
    pen.fillStyle = ink.line;
    pen.fillRect(0, axis - 0.5, width, 1);
  }

  // One cell of one stream: five bars of 40 ms over the wash of the cell (three where cells are narrow). An empty frame: this sound never came.
  bars(left, axis, side, levels, colour, wash) {
    const { context: pen, cell } = this;
    const from = axis + side * 6;
    if (!levels.length) {
      pen.strokeStyle = wash;
      pen.strokeRect(left + 2.5, from + (side < 0 ? -8 : 0), cell - 5, 8);
      return;
    }
    const longest = Math.max(...levels.map(height)) * REACH;
    pen.fillStyle = wash;
    const deep = longest > 3 ? longest + 8 : 3;
    pen.beginPath();
    pen.roundRect(left + 1.5, side < 0 ? from - deep : from, cell - 3, deep, Math.min(5, deep / 2));
    pen.fill();
    if (longest <= 3) return;
    pen.fillStyle = colour;
    const parts = cell < 24 ? [levels[0], Math.max(levels[1], levels[2]), Math.max(levels[3], levels[4])] : levels;
    const step = (cell - 7) / parts.length;
    pen.beginPath();
    parts.forEach((db, i) => {
      const long = Math.max(2, height(db) * REACH);
      const wide = Math.max(1.6, step - 1.6);
      pen.roundRect(left + 3.5 + i * step, side < 0 ? from - 3 - long : from + 3, wide, long, wide / 2);
    });
    pen.fill();
  }

  // Each word hangs on a stem at the moment it fell; rows keep neighbours apart.
  words(list, x, axis, side, colour, font) {
    const { context: pen, ink } = this;
    const free = new Array(ROWS).fill(-Infinity);
    pen.font = font;
    pen.textAlign = "left";
    for (const { t, word } of list) {
      const left = Math.round(x(t));
      const wide = pen.measureText(word).width;
      let row = free.findIndex((end) => end < left - 8);
      if (row < 0) row = free.indexOf(Math.min(...free));
      free[row] = left + wide + 6;
      const y = axis + side * (88 + row * 21) + (side > 0 ? 8 : 0);
      pen.globalAlpha = 0.45;
      pen.fillStyle = colour;
      pen.fillRect(left, side < 0 ? y - 13 : axis + 6, 1, Math.abs(y - axis) + (side < 0 ? 7 : -4));
      pen.globalAlpha = 1;
      pen.fillText(word, left + 5, y);
    }
  }

  lanes(tall) {
    const { context: pen, ink, width } = this;
    pen.textAlign = "left";
    pen.font = `600 13px ${ink.sans}`;
    const pad = Math.max(0, (width - 1240) / 2) + Math.max(20, Math.min(48, width * 0.04));
    for (const [label, y, colour] of [["You", 19, ink.ember], ["Agent", tall - 9, ink.sea]]) {
      const wide = pen.measureText(label).width;
      pen.fillStyle = ink.sheet;
      pen.fillRect(pad - 8, y - 14, wide + 16, 20);
      pen.fillStyle = colour;
      pen.fillText(label, pad, y);
    }
  }
}

customElements.define("ip-tape", Tape);
