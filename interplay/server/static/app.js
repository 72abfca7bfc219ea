// Ties the page together: the audio graph, the link to the server, and the components that show what happens.

import "./tape.js";
import "./transcript.js";
import "./gauges.js";
import "./recordings.js";
import { AudioGraph } from "./audio.js";
import { Camera } from "./camera.js";
import { exampleCells } from "./example.js";

const $ = (selector) => document.querySelector(selector);
const [tape, transcript, clock, status, figures, recordings] = [
  "ip-tape", "ip-transcript", "ip-clock", "ip-status", "ip-figures", "ip-recordings",
].map($);

const USER_LOUD_DB = -42;
const WITH_RECORDING = { user: "The recording is speaking", both: "It is speaking into the recording" };
const RETRY_S = [1, 2, 4, 8, 15];
const RENDERED_KEEP = 6000; // blocks of 20 ms of what the speaker really played: two minutes

const state = { name: "idle", graph: null, link: null, offset: 0, turns: 0, tries: 0, missing: 0, underruns: 0 };
// For tests and for the curious in the console: what really reached the speaker.
window.interplay = { state, tape, rendered: [], playback: null, gaps: [] };

const camera = new Camera($("#preview"), (message) => state.name === "live" && state.link?.postMessage({ type: "send", message }));

const now = () => performance.now() / 1000 - state.offset;

function enter(name) {
  state.name = name;
  document.body.dataset.state = name === "connecting" || name === "lost" ? "live" : name;
  for (const field of $("#typed").elements) field.disabled = name !== "live";
  $("#begin").textContent = name === "ended" ? "Begin again" : "Begin";
}

function notice(text, alarm = false) {
  $("#notice").textContent = text;
  $("#notice").classList.toggle("alarm", alarm);
}

async function begin({ microphone }) {
  if (state.name === "live" || state.name === "connecting") return;
  enter("connecting");
  status.show("connecting", "Connecting");
  notice("");
  state.tries = 0;
  try {
    state.graph = await AudioGraph.open();
  } catch (error) {
    enter("idle");
    status.show("idle", "Not connected");
    return notice(`This browser cannot open its audio: ${error.message}`, true);
  }
  watch(state.graph);
  state.wantsMicrophone = microphone;
  if (microphone) await microphoneOn();
  connect();
}

async function microphoneOn() {
  try {
    await state.graph.openMicrophone();
    notice("");
  } catch (error) {
    const why = {
      NotAllowedError: "The microphone is blocked for this page.",
      NotFoundError: "No microphone was found.",
      SecurityError: "A browser opens the microphone only on localhost or over https.",
    }[error.name] ?? "The microphone could not be opened.";
    notice(`${why} Play a recording or type instead.`, true);
  }
}

function watch(graph) {
  graph.addEventListener("playback", ({ detail }) => {
    const log = window.interplay.rendered;
    log.push(...detail.blocks);
    if (log.length > RENDERED_KEEP) log.splice(0, log.length - RENDERED_KEEP);
    delete detail.blocks;
    window.interplay.playback = detail;
    state.underruns = detail.underruns;
  });
  graph.addEventListener("microphone-lost", async () => {
    notice("The microphone was disconnected. Looking for another one.", true);
    await microphoneOn();
  });
  graph.addEventListener("recording", ({ detail }) => {
    recordings.mark(detail.playing ? detail.title : null);
    notice(detail.playing ? `Playing “${detail.title}” to it. Your microphone is closed meanwhile.` : "");
  });
}

function connect() {
  const link = new Worker("/static/link.js", { type: "module" });
  state.link = link;
  state.turns = 0;
  link.onmessage = ({ data }) => receive[data.type]?.(data, link);
  const ports = state.graph.ports();
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  link.postMessage({ type: "open", url, rate: state.graph.context.sampleRate, ...ports }, [ports.capture, ports.playback]);
}

const receive = {
  ready(message) {
    enter("live");
    state.tries = 0;
    state.missing = 0;
    state.offset = performance.now() / 1000;
    status.show("live", "Live");
    $("#mind").textContent = message.foreground;
    $("#camera").hidden = !message.sees;
    transcript.clear();
    tape.start(now);
    clock.show(0);
    clock.presence("none");
  },

  turn(cell) {
    const arrived = performance.now() / 1000 - (cell.turn + 1) * 0.2;
    // A slice can only arrive late, never early: follow the earliest quickly, drift back slowly.
    state.offset = !state.turns++ || arrived < state.offset ? arrived : state.offset + 0.02 * (arrived - state.offset);
    state.missing += cell.missing_ms;
    tape.push(cell);
    for (const word of cell.heard.split(" ").filter(Boolean)) transcript.word("user", cell.t, word);
    for (const [word, t] of cell.said) transcript.word("agent", t, word);
    const user = cell.level_db != null && cell.level_db > USER_LOUD_DB;
    const who = user && cell.speaking ? "both" : cell.speaking ? "agent" : user ? "user" : "none";
    clock.presence(who, state.graph?.recording ? WITH_RECORDING[who] : undefined);
    figures.show({
      lateness: cell.lateness_ms,
      step: cell.step_ms,
      buffer: (window.interplay.playback?.held_s ?? 0) * 1000,
      underruns: state.underruns,
      missing: state.missing + (cell.dropped_s ?? 0) * 1000,
    });
  },

  gap(message) {
    window.interplay.gaps.push(message);
    for (const [t, words] of message.heard) transcript.word("user", t, words);
    for (const [word, t] of message.said) transcript.word("agent", t, word);
    transcript.note("note", message.to * 0.2, `The page fell ${message.turns * 0.2 >= 1 ? Math.round(message.turns * 0.2) + " s " : ""}behind and skipped to now.`);
  },

  warning: ({ message }) => notice(message, true),

  error(message) {
    if (message.code === "text_too_long" || message.code === "bad_text") notice(message.message, true);
  },

  ended() {},

  closed({ error }, link) {
    link.terminate();
    if (state.link !== link) return;
    state.link = null;
    tape.stop();
    if (state.name === "ended") return;
    const message = error?.message ?? "The connection was lost.";
    const final = error && !["idle"].includes(error.code);
    if (final || state.tries >= RETRY_S.length) return finish(`${message[0].toUpperCase()}${message.slice(1)}`, true);
    const wait = RETRY_S[state.tries++];
    enter("lost");
    status.show("lost", `Connection lost. Trying again in ${wait} s`);
    clock.presence("none", "Not connected. A new conversation starts as soon as the server answers.");
    state.retry = setTimeout(connect, wait * 1000);
  },
};

function cameraOff() {
  camera.close();
  $("#camera").setAttribute("aria-pressed", "false");
  $("#camera").textContent = "Camera";
}

$("#camera").onclick = async () => {
  if (camera.on) return cameraOff();
  try {
    await camera.open();
    $("#camera").setAttribute("aria-pressed", "true");
    $("#camera").textContent = "Camera off";
  } catch (error) {
    camera.close();
    const why = { NotAllowedError: "The camera is blocked for this page.", NotFoundError: "No camera was found." };
    notice(why[error.name] ?? "The camera could not be opened.", true);
  }
};

async function finish(text = "", alarm = false) {
  clearTimeout(state.retry);
  cameraOff();
  $("#camera").hidden = true;
  enter("ended");
  state.link?.postMessage({ type: "close" });
  tape.stop();
  status.show("idle", "Not connected");
  clock.presence("none", "The conversation has ended.");
  notice(text, alarm);
  await state.graph?.close();
  state.graph = null;
  $("#mute").setAttribute("aria-pressed", "false");
  $("#mute").textContent = "Mute";
}

$("#begin").onclick = () => begin({ microphone: true });
$("#end").onclick = () => finish();
$("#mute").onclick = () => {
  const muted = !state.graph.muted;
  state.graph.setMuted(muted);
  $("#mute").setAttribute("aria-pressed", String(muted));
  $("#mute").textContent = muted ? "Unmute" : "Mute";
};

$("#typed").onsubmit = (event) => {
  event.preventDefault();
  const text = $("#text").value.trim();
  if (!text || state.name !== "live") return;
  state.link.postMessage({ type: "send", message: { type: "text", text } });
  transcript.note("typed", now(), text);
  $("#text").value = "";
};

recordings.addEventListener("play", async ({ detail }) => {
  if (state.name === "idle" || state.name === "ended") await begin({ microphone: false });
  if (!state.graph) return;
  try {
    await state.graph.playRecording(detail.bytes, detail.title);
    if (innerWidth < 900) $(".stage").scrollIntoView({ behavior: "smooth" });
  } catch {
    notice(`“${detail.title}” is not a sound file this browser can read. Choose a WAV, FLAC, OGG or MP3.`, true);
  }
});
recordings.addEventListener("stop", () => state.graph?.stopRecording());
recordings.addEventListener("monitor", ({ detail }) => state.graph?.setMonitor(detail.audible));
recordings.addEventListener("problem", ({ detail }) => notice(detail.message, true));

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.graph?.context.state !== "running") state.graph?.context.resume();
});
navigator.mediaDevices?.addEventListener("devicechange", () => {
  if (state.name === "live" && state.graph && !state.graph.microphone && !state.graph.recording && state.wantsMicrophone)
    microphoneOn();
});

tape.show(exampleCells(), tape.clientWidth < 600 ? 8.2 : 6.9);
enter("idle");
setInterval(() => {
  if (state.name === "live") clock.show(now());
}, 100);
