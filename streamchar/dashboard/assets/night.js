// The night as the page knows it, brought up to date by the server's events.

export class Night {
  constructor() {
    this.visits = new Map();
    this.order = [];
    this.columns = [];
    this.sections = {};
    this.version = "";
    this.offset = 0;
  }

  /** Seconds since 1970 by the server's clock. */
  get now() {
    return Date.now() / 1000 + this.offset;
  }

  /** Take an event in: everything ("night") or what has changed ("update"). */
  apply(kind, data) {
    if (kind === "night") {
      this.visits.clear();
      this.columns = data.columns;
      this.version = data.version;
    }
    this.offset = data.now - Date.now() / 1000;
    for (const key of data.dropped ?? []) this.visits.delete(key.join("/"));
    for (const row of data.visits ?? []) {
      const visit = Object.fromEntries(this.columns.map((name, i) => [name, row[i]]));
      visit.key = `${visit.instrument}/${visit.exposure}`;
      visit.done = visit.succeeded + visit.degraded + visit.failed + visit.expired;
      visit.waiting = visit.frames - visit.done;
      this.visits.set(visit.key, visit);
    }
    for (const [name, value] of Object.entries(data)) {
      if (!["visits", "columns", "dropped", "now", "version"].includes(name)) this.sections[name] = value;
    }
    this.order = [...this.visits.values()].sort((a, b) => a.at - b.at);
  }

  get instruments() {
    return [...new Set(this.order.map((visit) => visit.instrument))].sort();
  }

  of(instrument) {
    return this.order.filter((visit) => visit.instrument === instrument);
  }
}
