// The audio graph of the page. One capture node (microphone or recording in), one playback node (agent out).

const MICROPHONE = {
  channelCount: 1,
  echoCancellation: true, // the agent's own voice must not come back as the person's
  noiseSuppression: true,
  autoGainControl: true,
};

export class AudioGraph extends EventTarget {
  static async open() {
    const graph = new AudioGraph();
    const context = new AudioContext({ latencyHint: "interactive" });
    graph.context = context;
    await Promise.all([
      context.audioWorklet.addModule("/static/capture.worklet.js"),
      context.audioWorklet.addModule("/static/playback.worklet.js"),
    ]);
    graph.capture = new AudioWorkletNode(context, "interplay-capture", { numberOfOutputs: 0 });
    graph.playback = new AudioWorkletNode(context, "interplay-playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    graph.playback.port.onmessage = (event) => graph.emit("playback", event.data);
    graph.playback.connect(context.destination);
    graph.voiceIn = new GainNode(context); // the microphone, closed while muted or while a recording plays
    graph.voiceIn.connect(graph.capture);
    graph.monitor = new GainNode(context, { gain: 0.35 }); // recordings, for the person's own ears
    graph.monitor.connect(context.destination);
    graph.muted = false;
    await context.resume();
    return graph;
  }

  emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  // Two ports for the link: frames of the person, slices of the agent.
  ports() {
    const up = new MessageChannel();
    const down = new MessageChannel();
    this.capture.port.postMessage({ sink: up.port1 }, [up.port1]);
    this.playback.port.postMessage({ source: down.port1 }, [down.port1]);
    return { capture: up.port2, playback: down.port2 };
  }

  async openMicrophone() {
    if (!navigator.mediaDevices) throw new DOMException("insecure page", "SecurityError");
    this.closeMicrophone();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
    const [track] = stream.getAudioTracks();
    track.addEventListener("ended", () => {
      if (this.stream === stream) this.emit("microphone-lost", track.label);
    });
    this.stream = stream;
    this.microphone = new MediaStreamAudioSourceNode(this.context, { mediaStream: stream });
    this.microphone.connect(this.voiceIn);
    return track.label;
  }

  closeMicrophone() {
    const stream = this.stream;
    this.stream = null;
    this.microphone?.disconnect();
    this.microphone = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
  }

  setMuted(muted) {
    this.muted = muted;
    this.gate();
  }

  setMonitor(audible) {
    this.monitor.gain.setTargetAtTime(audible ? 0.35 : 0, this.context.currentTime, 0.02);
  }

  gate() {
    const open = !this.muted && !this.recording;
    this.voiceIn.gain.setTargetAtTime(open ? 1 : 0, this.context.currentTime, 0.01);
  }

  // Decodes in the browser and plays at real-time pace into the capture node, as though spoken.
  async playRecording(bytes, title) {
    const buffer = await this.context.decodeAudioData(bytes);
    this.stopRecording();
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.capture);
    source.connect(this.monitor);
    source.onended = () => {
      if (this.recording === source) this.stopRecording();
    };
    this.recording = source;
    this.gate();
    source.start();
    this.emit("recording", { title, seconds: buffer.duration, playing: true });
    return buffer.duration;
  }

  stopRecording() {
    const source = this.recording;
    if (!source) return;
    this.recording = null;
    source.disconnect();
    try {
      source.stop();
    } catch {
      // already ended by itself
    }
    this.gate();
    this.emit("recording", { playing: false });
  }

  async close() {
    this.stopRecording();
    this.closeMicrophone();
    await this.context.close();
  }
}
