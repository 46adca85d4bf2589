// The connection to the server: it comes back by itself, and says since when it is gone.

const SILENCE = 12_000;
const RETRY = 2_000;

export class Link {
  /** Calls `onEvent(kind, data)` with every event and `onState(state, since)` when the connection comes or goes. */
  constructor(address, onEvent, onState) {
    this.address = address;
    this.onEvent = onEvent;
    this.onState = onState;
    this.last = "";
    this.state = "connecting";
    this.heard = Date.now();
    this.open();
    setInterval(() => this.watch(), 1000);
  }

  open() {
    this.source?.close();
    clearTimeout(this.timer);
    const query = this.last ? `?last=${encodeURIComponent(this.last)}` : "";
    this.source = new EventSource(this.address + query);
    for (const kind of ["night", "update", "beat"]) {
      this.source.addEventListener(kind, (event) => {
        this.heard = Date.now();
        if (event.lastEventId) this.last = event.lastEventId;
        this.become("live");
        this.onEvent(kind, JSON.parse(event.data));
      });
    }
    this.source.onerror = () => {
      this.source.close();
      this.become("lost");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), RETRY);
    };
  }

  watch() {
    if (this.state === "live" && Date.now() - this.heard > SILENCE) {
      this.become("lost");
      this.open();
    }
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state, this.heard);
  }
}
