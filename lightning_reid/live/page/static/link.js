// The one connection: messages in, acknowledgments and requests out. It comes back by itself.

const SILENCE = 4000; // milliseconds without a tick after which nothing shown is believed to be live
const LONGEST_WAIT = 10000;
const decoder = new TextDecoder();

export class Link {
  constructor({ onPicture, onCrop, onTick, onRefused, onLink, show }) {
    Object.assign(this, { onPicture, onCrop, onTick, onRefused, onLink, show });
    this.wait = 500;
    this.heard = performance.now();
    this.connect();
    setInterval(() => this.watch(), 500);
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.fresh = true;
    this.heard = performance.now();
    let before = Promise.resolve(); // ticks are taken in order, each with the pictures that came before it
    let decoding = [];
    socket.onopen = () => this.tellShow();
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        decoding.push(decode(data));
        return;
      }
      const message = JSON.parse(data);
      if (message.kind === "refused") this.onRefused(message.text);
      else {
        const all = Promise.all(decoding);
        decoding = [];
        before = before.then(() => all).then((pictures) => this.takeTick(socket, message, pictures));
      }
    };
    socket.onclose = () => this.lost(socket);
  }

  takeTick(socket, tick, pictures) {
    if (socket !== this.socket) return;
    this.heard = performance.now();
    this.wait = 500;
    this.onTick(tick, this.fresh);
    for (const { head, bitmap } of pictures) (head.kind === "picture" ? this.onPicture : this.onCrop)(head, bitmap);
    if (this.fresh) this.onLink("live");
    this.fresh = false;
    this.send({ kind: "drawn", tick: tick.tick });
  }

  watch() {
    if (performance.now() - this.heard > SILENCE) this.lost(this.socket);
  }

  lost(socket) {
    if (socket !== this.socket || this.timer) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
    this.socket = null;
    this.onLink("lost", this.wait);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.connect();
    }, this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
  }

  tellShow() {
    this.send({ kind: "show", ...this.show() });
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify(message));
      return true;
    }
    return false;
  }
}

// A binary message is the length of its head, the head in JSON, then a JPEG.
async function decode(data) {
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(decoder.decode(new Uint8Array(data, 4, length)));
  return { head, bitmap: await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" })) };
}
