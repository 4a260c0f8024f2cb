// EventSource, as browsers have it and Node does not yet: enough of it for
// message events and reconnects.
export class EventSource {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = 0;
  #listeners = {};
  #abort = new AbortController();
  #last = '';

  constructor(url) {
    this.url = url;
    this.#run();
  }

  addEventListener(type, listener) {
    (this.#listeners[type] ??= []).push(listener);
  }

  removeEventListener(type, listener) {
    this.#listeners[type] = (this.#listeners[type] ?? []).filter((l) => l !== listener);
  }

  close() {
    this.readyState = 2;
    this.#abort.abort();
  }

  #emit(type, event = {}) {
    const e = { type, ...event };
    this[`on${type}`]?.(e);
    for (const l of this.#listeners[type] ?? []) l(e);
  }

  async #run() {
    while (this.readyState !== 2) {
      this.readyState = 0;
      try {
        const response = await fetch(this.url, {
          signal: this.#abort.signal,
          headers: { Accept: 'text/event-stream', ...(this.#last && { 'Last-Event-ID': this.#last }) },
        });
        if (response.status !== 200) {
          this.readyState = 2;
          this.#emit('error');
          return;
        }
        this.readyState = 1;
        this.#emit('open');
        let text = '';
        for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
          text += chunk;
          for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
            this.#event(text.slice(0, end));
            text = text.slice(end + 2);
          }
        }
      } catch {
        // lost: connect again
      }
      if (this.readyState !== 2) {
        this.readyState = 0;
        this.#emit('error');
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  #event(block) {
    const fields = {};
    for (const line of block.split('\n')) {
      const at = line.indexOf(':');
      if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).trim();
    }
    if (fields.id) this.#last = fields.id;
    if (fields.data) this.#emit(fields.event ?? 'message', { data: fields.data, lastEventId: this.#last });
  }
}
