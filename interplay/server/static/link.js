// The socket, in a worker of its own. Sound goes worklet <-> worker <-> server by message ports and never touches
// the page's main thread: a page that is busy for ten seconds keeps talking.

const MAX_BUFFERED_S = 0.6; // more than this waiting in the socket is no longer live: drop it

let socket = null;
let capture = null;
let playback = null;
let rate = 0;
let dropped = 0;

const tell = (message) => self.postMessage(message);

function onFrame(event) {
  const pcm = event.data; // Int16Array, one capture frame
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  if (socket.bufferedAmount > MAX_BUFFERED_S * rate * 2) {
    dropped += pcm.length;
    return;
  }
  socket.send(pcm);
}

function onSlice(buffer) {
  const header = new DataView(buffer);
  const turn = header.getUint32(0, true);
  const flags = header.getUint32(4, true);
  const pcm = buffer.byteLength > 8 ? new Int16Array(buffer, 8) : null;
  playback.postMessage({ turn, flags, pcm }, [buffer]);
  socket.send(JSON.stringify({ type: "ack", turn }));
}

function open(message) {
  ({ capture, playback, rate } = message);
  dropped = 0;
  socket = new WebSocket(message.url);
  socket.binaryType = "arraybuffer";
  const mine = socket;
  let lastError = null;
  socket.onopen = () => {
    mine.send(JSON.stringify({ type: "hello", version: 1, rate }));
    capture.onmessage = onFrame;
  };
  socket.onmessage = (event) => {
    if (typeof event.data !== "string") return onSlice(event.data);
    const received = JSON.parse(event.data);
    if (received.type === "turn") received.dropped_s = dropped / rate;
    if (received.type === "error") lastError = received;
    tell(received);
  };
  socket.onclose = (event) => {
    if (capture) capture.onmessage = null;
    if (socket === mine) socket = null;
    tell({ type: "closed", code: event.code, error: lastError });
  };
}

self.onmessage = (event) => {
  const message = event.data;
  if (message.type === "open") return open(message);
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  // A picture that has to wait is not worth sending: the next one is newer.
  if (message.message?.type === "frame" && socket.bufferedAmount > MAX_BUFFERED_S * rate * 2) return;
  if (message.type === "send") socket.send(JSON.stringify(message.message));
  if (message.type === "close") {
    socket.send(JSON.stringify({ type: "bye" }));
    socket.close(1000);
  }
};
