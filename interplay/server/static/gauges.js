// Small read-outs: <ip-clock> elapsed time and who speaks, <ip-status> the connection, <ip-figures> the numbers.

const WHO = { user: "You are speaking", agent: "It is speaking", both: "Both of you are speaking", none: "Listening" };

class Clock extends HTMLElement {
  connectedCallback() {
    this.innerHTML =
      '<div class="time" role="timer" aria-label="Elapsed time"><span class="whole">0:00</span><span class="tenths">.0</span></div>' +
      '<p class="who" data-who="none">Listening</p>';
    this.whole = this.querySelector(".whole");
    this.tenths = this.querySelector(".tenths");
    this.who = this.querySelector(".who");
  }

  show(seconds) {
    const t = Math.max(0, seconds);
    this.whole.textContent = `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;
    this.tenths.textContent = `.${Math.floor((t * 10) % 10)}`;
  }

  presence(who, text) {
    this.who.dataset.who = who;
    const words = text ?? WHO[who];
    if (this.who.textContent !== words) this.who.textContent = words;
  }
}

class Status extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "status");
    this.show("idle", "Not connected");
  }

  show(state, text) {
    this.dataset.state = state;
    if (this.textContent !== text) this.textContent = text;
  }
}

const FIGURES = [
  ["lateness", "Behind the clock", "ms"],
  ["step", "Model step", "ms"],
  ["buffer", "Playback buffer", "ms"],
  ["underruns", "Gaps in playback", ""],
  ["missing", "Sound lost on the way in", "ms"],
];

class Figures extends HTMLElement {
  connectedCallback() {
    const list = document.createElement("dl");
    this.rows = {};
    for (const [key, label] of FIGURES) {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = label;
      value.textContent = "–";
      row.append(term, value);
      list.append(row);
      this.rows[key] = { row, value };
    }
    this.append(list);
  }

  show(values) {
    for (const [key, , unit] of FIGURES) {
      if (!(key in values)) continue;
      const value = values[key];
      this.rows[key].value.textContent = value == null ? "–" : `${Math.round(value)}${unit ? " " + unit : ""}`;
      this.rows[key].row.classList.toggle("bad", key === "lateness" && value > 100);
    }
  }
}

customElements.define("ip-clock", Clock);
customElements.define("ip-status", Status);
customElements.define("ip-figures", Figures);
