// The person's camera: five small pictures a second, as JPEG, to whoever wants them. Off until it is asked for.

const WANTED = { width: { ideal: 320 }, height: { ideal: 240 }, frameRate: { ideal: 15 } };
const EVERY_MS = 200; // one for each micro-turn
const LONG_SIDE = 160; // pixels
const QUALITY = 0.7;
const MAX_CHARS = 16_000; // in base64; the server takes no more

export class Camera {
  constructor(preview, send) {
    this.preview = preview;
    this.send = send;
    this.canvas = document.createElement("canvas");
  }

  get on() {
    return Boolean(this.stream);
  }

  async open() {
    if (!navigator.mediaDevices) throw new DOMException("insecure page", "SecurityError");
    this.stream = await navigator.mediaDevices.getUserMedia({ video: WANTED });
    this.preview.srcObject = this.stream;
    this.preview.hidden = false;
    await this.preview.play();
    this.timer = setInterval(() => this.shoot(), EVERY_MS);
  }

  close() {
    clearInterval(this.timer);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.preview.srcObject = null;
    this.preview.hidden = true;
  }

  shoot() {
    const { videoWidth: width, videoHeight: height } = this.preview;
    if (!width || document.hidden) return;
    const scale = Math.min(1, LONG_SIDE / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d").drawImage(this.preview, 0, 0, this.canvas.width, this.canvas.height);
    const jpeg = this.canvas.toDataURL("image/jpeg", QUALITY).split(",")[1];
    if (jpeg.length <= MAX_CHARS) this.send({ type: "frame", jpeg });
  }
}
