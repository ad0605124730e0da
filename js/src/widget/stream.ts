/** What the kernel streams: the panes' texts, outside of the signals, because a growing list is no state to diff. */
import { batch, type Signal, signal } from "@preact/signals";
import type {
  Complaint,
  End,
  Figures,
  PaneEnd,
  PaneResult,
  PromptTokens,
  Result,
  Snapshot,
  Start,
  Tokens,
  Trouble,
} from "../protocol";

type Streamed = Start | PromptTokens | Tokens | End | Figures | Complaint | Snapshot;

/** resting: the text stands. pending: a run has no token for it yet. running: tokens come in. */
export type Phase = "resting" | "pending" | "running";

/** Someone who draws a pane. */
export interface Sink {
  /** The whole text, again. */
  replace(tokens: readonly string[]): void;
  add(tokens: readonly string[]): void;
  /** What is there is the text of an older run, until it is written over. */
  age(): void;
  /** The run is over, and this is the whole text. */
  settle(tokens: readonly string[]): void;
}

const NO_END: PaneEnd = {
  finish: null,
  applied: null,
  tokens_per_second: null,
  fault: "",
  verdict: null,
  kl: null,
  cross_entropy: null,
};

const SAY_MS = 300; // figures that change more often cannot be read

export class Pane {
  readonly phase: Signal<Phase> = signal("resting");
  /** What is said of the text, and its length in tokens; while it is written, a few times a second. */
  readonly end: Signal<PaneEnd> = signal(NO_END);
  readonly length: Signal<number> = signal(0);
  private newest = NO_END;
  private saying: ReturnType<typeof setTimeout> | undefined;
  private tokens: string[] = [];
  private readonly sinks = new Set<Sink>();

  constructor(readonly id: string) {}

  /** The text as it stands, token by token. */
  get words(): readonly string[] {
    return this.tokens;
  }

  watch(sink: Sink): () => void {
    this.sinks.add(sink);
    sink.replace(this.tokens);
    if (this.phase.value === "pending") sink.age();
    return () => this.sinks.delete(sink);
  }

  replace(tokens: readonly string[]): void {
    this.tokens = [...tokens];
    this.say();
    for (const sink of this.sinks) sink.replace(tokens);
  }

  /** A whole text at once. One that stands already is not drawn again. */
  show({ tokens, ...end }: PaneResult): void {
    const stands = this.phase.value === "resting" && tokens.length === this.tokens.length;
    if (!stands || tokens.some((token, i) => token !== this.tokens[i])) this.replace(tokens);
    this.settle(end);
  }

  begin(resumed: boolean): void {
    if (resumed) this.settle(undefined); // a run in between may have aged what goes on now
    this.phase.value = resumed ? "running" : "pending";
    for (const sink of this.sinks) {
      if (resumed)
        sink.add([]); // its cursor
      else sink.age();
    }
  }

  add(tokens: readonly string[], soFar: PaneEnd): void {
    const first = this.phase.value === "pending";
    if (first) this.tokens = [];
    this.phase.value = "running";
    this.tokens.push(...tokens);
    this.newest = soFar;
    if (first) this.say();
    else this.saying ??= setTimeout(() => this.say(), SAY_MS);
    for (const sink of this.sinks) sink.add(tokens);
  }

  /** The text stands. end: what is said of it, unless that stands, too. */
  settle(end: PaneEnd | undefined): void {
    if (end) this.newest = end;
    this.say();
    if (this.phase.value === "resting") return; // it is drawn
    this.phase.value = "resting";
    for (const sink of this.sinks) sink.settle(this.tokens);
  }

  /** More is known of a text that stands. */
  measured(figures: Partial<PaneEnd>): void {
    this.newest = { ...this.newest, ...figures };
    this.say();
  }

  private say(): void {
    clearTimeout(this.saying);
    this.saying = undefined;
    batch(() => {
      this.end.value = this.newest;
      this.length.value = this.tokens.length;
    });
  }
}

/** Follows the newest run. `resync` asks the kernel for everything; `landed` hears the first answer to a run. */
export class Stream {
  readonly panes: Signal<readonly Pane[]> = signal([]);
  readonly status: Signal<Result["status"]> = signal("idle");
  readonly error: Signal<Trouble | null> = signal(null);
  readonly promptTokens: Signal<readonly string[]> = signal([]);
  /** The newest run that the kernel began. */
  readonly run: Signal<number> = signal(0);
  private seq = 0;
  /** The change whose text was shown before the kernel ran it, and whether what the kernel runs is still older. */
  private led = 0;
  private behind = false;
  /** Panes with a text that the kernel has not run yet. It never does where another change came soon enough. */
  private readonly leading = new Set<string>();

  constructor(
    private readonly origin: string,
    private readonly resync: () => void,
    private readonly landed: () => void,
  ) {}

  pane(id: string): Pane {
    const known = this.panes.value.find((pane) => pane.id === id);
    if (known) return known;
    const pane = new Pane(id);
    this.panes.value = [...this.panes.value, pane];
    return pane;
  }

  /** What was saved with the notebook, or what a snapshot brings; `but` for panes with a text that is newer. */
  show(result: Result, but: ReadonlySet<string> = new Set(), newer = true): void {
    batch(() => {
      this.panes.value = Object.keys(result.panes).map((id) => this.pane(id));
      for (const [id, { tokens, ...end }] of Object.entries(result.panes)) {
        if (but.has(id)) continue;
        const pane = this.pane(id);
        pane.replace(tokens);
        pane.settle(end);
      }
      this.promptTokens.value = result.prompt_tokens;
      this.status.value = result.status;
      if (result.error || newer) this.error.value = result.error; // else a complaint stays
    });
  }

  /** There is no kernel any more: what stands is the last there is. */
  settle(): void {
    batch(() => {
      for (const pane of this.panes.value) pane.settle(undefined);
      if (this.status.value === "running") this.status.value = "stopped";
    });
  }

  /** Show texts that are ready for a change of ours, before the kernel has heard of it. */
  lead(edit: number, texts: Record<string, PaneResult>): void {
    batch(() => {
      this.led = edit;
      this.behind = true;
      this.status.value = "running"; // until the kernel has confirmed it
      this.error.value = null;
      for (const [id, text] of Object.entries(texts)) {
        this.leading.add(id);
        this.pane(id).show(text);
      }
    });
  }

  receive(message: Streamed): void {
    batch(() => this.take(message));
  }

  private take(message: Streamed): void {
    if (message.kind === "complaint") {
      this.error.value = message.error;
      this.landed();
      return;
    }
    if (message.run < this.run.value) return; // of a run that a newer one has replaced
    const ours = message.kind === "start" && message.origin === this.origin;
    if (message.kind === "start") this.behind = ours && message.edit < this.led;
    if (this.behind && message.kind !== "snapshot") {
      this.run.value = message.run; // of what was set before: its texts would take the place of newer ones
      if (message.kind === "end" || message.kind === "tokens") this.landed();
      return;
    }
    switch (message.kind) {
      case "start":
        if (message.run > this.run.value) this.seq = 0;
        this.panes.value = message.shown.map((id) => this.pane(id));
        this.run.value = message.run;
        this.status.value = "running";
        this.error.value = null;
        for (const id of message.panes) this.pane(id).begin(false);
        for (const id of message.resumed) this.pane(id).begin(true);
        for (const [id, text] of Object.entries(message.ready)) this.pane(id).show(text);
        for (const pane of this.panes.value) {
          if (!message.panes.includes(pane.id) && !message.resumed.includes(pane.id)) this.keep(pane);
        }
        this.confirm(message, ours);
        this.catchUp(message.panes);
        break;
      case "prompt":
        this.promptTokens.value = message.tokens;
        break;
      case "tokens":
        if (message.seq !== this.seq + 1) {
          this.resync();
          break;
        }
        this.seq = message.seq;
        for (const [id, tokens] of Object.entries(message.panes)) {
          this.leading.delete(id);
          this.pane(id).add(tokens, message.so_far[id] ?? NO_END);
        }
        this.landed();
        break;
      case "end":
        this.status.value = message.status;
        if (message.error) this.error.value = message.error; // else a complaint stays
        for (const pane of this.panes.value) pane.settle(message.panes[pane.id]);
        this.catchUp();
        this.landed();
        break;
      case "figures":
        for (const [id, found] of Object.entries(message.cross_entropy)) {
          this.pane(id).measured({ cross_entropy: found });
        }
        break;
      case "snapshot": {
        const { origin, edit } = message.state;
        this.behind = origin === this.origin && edit < this.led;
        if (!this.behind) this.leading.clear();
        const newer = message.run > this.run.value;
        this.run.value = message.run;
        this.seq = message.seq;
        this.show(message.result, this.leading, newer);
        if (this.behind) {
          this.status.value = "running"; // as it was: what is led to is still to be run
        } else if (message.result.status === "running") {
          for (const pane of this.panes.value) {
            if (message.pending.includes(pane.id)) pane.begin(false);
            else if (pane.end.value.finish === null) pane.begin(true);
          }
        }
        break;
      }
    }
  }

  /** The texts that a run is said to begin with are the kernel's; so are those that it leaves alone, where it ran ours. */
  private confirm({ panes, resumed, ready, edit }: Start, ours: boolean): void {
    const ran = ours && edit === this.led;
    for (const id of [...this.leading]) {
      if (ready[id] || (ran && !panes.includes(id) && !resumed.includes(id))) this.leading.delete(id);
    }
  }

  /** Ask for the kernel's own texts where it was never told of what stands, but for the panes that it writes anew. */
  private catchUp(written: readonly string[] = []): void {
    const stands = ({ id }: Pane) => this.leading.has(id) && !written.includes(id);
    if (this.panes.value.some(stands)) this.resync();
  }

  /** A pane that a new run leaves alone stands as it is, though a run before may have aged it. */
  private keep(pane: Pane): void {
    if (pane.phase.value === "pending") pane.settle(undefined);
  }
}
