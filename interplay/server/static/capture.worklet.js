// Everything that goes into this node, as mono 16-bit frames of about 20 ms, to the port that the page hands over.
// With nothing connected it sends silence: a muted microphone is silence, not a hole in time.

const FRAME_S = 0.02;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Int16Array(Math.round(sampleRate * FRAME_S));
    this.filled = 0;
    this.sink = null;
    this.port.onmessage = (event) => {
      this.sink = event.data.sink;
    };
  }

  process(inputs) {
    const input = inputs[0];
    const channels = input.length;
    const samples = channels ? input[0].length : 128;
    for (let i = 0; i < samples; i++) {
      let value = 0;
      for (let c = 0; c < channels; c++) value += input[c][i];
      if (channels > 1) value /= channels;
      value = Math.max(-1, Math.min(1, value));
      this.frame[this.filled++] = Math.round(value * 32767);
      if (this.filled === this.frame.length) this.flush();
    }
    return true;
  }

  flush() {
    this.filled = 0;
    if (!this.sink) return;
    const copy = this.frame.slice();
    this.sink.postMessage(copy, [copy.buffer]);
  }
}

registerProcessor("interplay-capture", Capture);
