// <ip-transcript>: the same words as text, one line per stretch of speech, read out by screen readers.

const PAUSE_S = 1.4; // a longer pause starts a new line
const KEEP = 300;

const clock = (t) => `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;

class Transcript extends HTMLElement {
  connectedCallback() {
    this.list = document.createElement("ol");
    this.list.setAttribute("role", "log");
    this.list.setAttribute("aria-live", "polite");
    this.list.tabIndex = 0;
    this.list.setAttribute("aria-label", "Words heard and said, newest last");
    this.append(this.list);
    this.clear();
  }

  clear() {
    this.open = {};
    this.list.replaceChildren();
    const empty = document.createElement("li");
    empty.className = "empty";
    empty.textContent = "Your words and its words will appear here as they happen.";
    this.list.append(empty);
  }

  word(lane, t, text) {
    const line = this.open[lane];
    if (line && t - line.until < PAUSE_S && this.list.lastElementChild === line.item) {
      line.text.append(" ");
    } else {
      this.open[lane] = this.line(lane, t);
    }
    const span = document.createElement("span");
    span.dataset.lane = lane;
    span.dataset.t = t.toFixed(3);
    span.textContent = text;
    this.open[lane].text.append(span);
    this.open[lane].until = t;
    this.follow();
  }

  note(kind, t, text) {
    this.line(kind, t).text.textContent = text;
    this.follow();
  }

  line(lane, t) {
    this.list.querySelector(".empty")?.remove();
    const item = document.createElement("li");
    item.className = lane;
    const time = document.createElement("time");
    time.textContent = clock(t);
    const text = document.createElement("span");
    text.className = "text";
    const who = document.createElement("span");
    who.className = "hidden";
    who.textContent = { user: "You: ", agent: "Agent: ", typed: "You typed: " }[lane] ?? "";
    item.append(time, text);
    text.append(who);
    this.list.append(item);
    while (this.list.childElementCount > KEEP) this.list.firstElementChild.remove();
    return { item, text, until: t };
  }

  follow() {
    this.list.scrollTop = this.list.scrollHeight;
  }
}

customElements.define("ip-transcript", Transcript);
