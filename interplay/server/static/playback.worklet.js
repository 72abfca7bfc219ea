// The agent's voice: 200 ms slices at 24 kHz in, sound at the device's rate out, a buffer that stays short.
//
// Just before a slice arrives the buffer should still hold TARGET_S of sound: that much network jitter is free. The
// server's clock and this device's clock never agree exactly, so the reader runs up to 0.5 % fast or slow to hold the
// target (inaudible), silent slices are cut or stretched at once, and nothing ever waits beyond MAX_S.

const IN_RATE = 24000;
const SLICE = 4800;
const TARGET_S = 0.08;
const SLACK_S = 0.03;
const MAX_S = 0.4;
const TRIM = 0.005;
const TAPS = 16;
const PHASES = 128;
const CAPACITY = 1 << 15;
const METER_S = 0.02;
const REPORT_S = 0.1;
const AFTER_GAP = 4;

// Windowed sinc, one row of taps per fraction of a sample; low-pass where the device runs slower than 24 kHz.
function kernel() {
  const cut = Math.min(1, sampleRate / IN_RATE) * 0.94;
  const rows = new Float32Array((PHASES + 1) * TAPS);
  for (let p = 0; p <= PHASES; p++) {
    let sum = 0;
    for (let k = 0; k < TAPS; k++) {
      const x = k - TAPS / 2 + 1 - p / PHASES;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * x * cut) / (Math.PI * x * cut);
      const window = 0.5 + 0.5 * Math.cos((Math.PI * x) / (TAPS / 2 + 0.5));
      rows[p * TAPS + k] = sinc * window;
      sum += sinc * window;
    }
    for (let k = 0; k < TAPS; k++) rows[p * TAPS + k] /= sum;
  }
  return rows;
}

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.kernel = kernel();
    this.ring = new Float32Array(CAPACITY);
    this.turns = new Float64Array(CAPACITY); // session seconds of every sample, to say what is being heard right now
    this.reset();
    this.port.onmessage = (event) => {
      if (event.data.source) {
        this.reset();
        event.data.source.onmessage = (slice) => this.take(slice.data);
      }
    };
  }

  reset() {
    this.write = TAPS; // index after the newest sample, counted from the beginning of time
    this.read = TAPS; // fractional index of the next sample to play
    this.playing = false;
    this.trim = 0;
    this.level = TARGET_S; // smoothed seconds in the buffer just before a slice arrives
    this.stats = { underruns: 0, cut_s: 0, padded_s: 0, longest_s: 0, slices: 0 };
    this.meter = { squares: 0, samples: 0, blocks: [], since: 0 };
  }

  held() {
    return (this.write - this.read) / IN_RATE;
  }

  push(value, time) {
    const at = this.write++ & (CAPACITY - 1);
    this.ring[at] = value;
    this.turns[at] = time;
  }

  take({ turn, flags, pcm }) {
    const start = (turn + 1) * 0.2;
    let before = this.held();
    this.stats.slices++;
    if (!this.playing || flags & AFTER_GAP) {
      this.cut(before - TARGET_S);
      this.pad(TARGET_S - this.held(), start);
      this.playing = true;
      this.level = TARGET_S;
      before = TARGET_S;
    }
    this.level += 0.15 * (before - this.level);
    let skip = 0;
    if (!pcm) {
      // Silence: put the level right at once, nobody can hear it.
      const excess = before - TARGET_S;
      if (excess > SLACK_S) {
        skip = Math.min(SLICE, Math.round(excess * IN_RATE));
        this.level = TARGET_S;
      } else if (excess < -SLACK_S) {
        this.pad(-excess, start);
        this.level = TARGET_S;
      }
      this.stats.cut_s += skip / IN_RATE;
    }
    for (let i = skip; i < SLICE; i++) this.push(pcm ? pcm[i] / 32768 : 0, start + i / IN_RATE);
    if (this.held() > MAX_S) this.cut(this.held() - TARGET_S - SLICE / IN_RATE);
    const off = this.level - TARGET_S;
    this.trim = Math.abs(off) < SLACK_S / 2 ? 0 : Math.max(-TRIM, Math.min(TRIM, off * 0.1));
    this.stats.longest_s = Math.max(this.stats.longest_s, this.held());
  }

  cut(seconds) {
    if (seconds <= 0) return;
    this.read += Math.round(seconds * IN_RATE);
    this.stats.cut_s += seconds;
  }

  pad(seconds, time) {
    if (seconds <= 0) return;
    for (let i = Math.round(seconds * IN_RATE); i > 0; i--) this.push(0, time);
    this.stats.padded_s += seconds;
  }

  sample() {
    const whole = Math.floor(this.read);
    const row = Math.round((this.read - whole) * PHASES) * TAPS;
    const first = whole - TAPS / 2 + 1;
    let value = 0;
    for (let k = 0; k < TAPS; k++) value += this.ring[(first + k) & (CAPACITY - 1)] * this.kernel[row + k];
    return value;
  }

  process(_inputs, outputs) {
    const out = outputs[0];
    const step = (IN_RATE / sampleRate) * (1 + this.trim);
    let time = -1;
    for (let i = 0; i < out[0].length; i++) {
      let value = 0;
      if (this.playing && this.write - this.read > TAPS / 2 + 1) {
        value = this.sample();
        time = this.turns[Math.floor(this.read) & (CAPACITY - 1)];
        this.read += step;
      } else if (this.playing) {
        this.playing = false;
        this.stats.underruns++;
      }
      for (const channel of out) channel[i] = value;
      this.measure(value, i, time);
    }
    return true;
  }

  measure(value, i, time) {
    const meter = this.meter;
    meter.squares += value * value;
    if (++meter.samples >= METER_S * sampleRate) {
      meter.blocks.push([currentTime + i / sampleRate, time, Math.sqrt(meter.squares / meter.samples)]);
      meter.squares = meter.samples = 0;
    }
    if (meter.blocks.length * METER_S >= REPORT_S) {
      this.port.postMessage({ blocks: meter.blocks, held_s: this.held(), trim: this.trim, ...this.stats });
      meter.blocks = [];
    }
  }
}

registerProcessor("interplay-playback", Playback);
