/** What is behind the tokens of the panes, asked for once a run has ended and somebody looks; shared by every view. */
import { effect, type Signal, signal } from "@preact/signals";
import type { Question, TokensAnswer } from "../protocol";
import type { Asked } from "./asks";
import type { Stream } from "./stream";

export interface TokenPlace {
  pane: string;
  /** Counted from the first token of the pane's own text. */
  token: number;
}

export class Details {
  /** The token at which the lens is to open. */
  readonly at: Signal<TokenPlace | null> = signal(null);
  private readonly asked: Signal<ReadonlyMap<string, Asked<"tokens">>> = signal(new Map());

  constructor(
    private readonly stream: Stream,
    private readonly ask: (what: Question & { kind: "tokens" }) => Asked<"tokens">,
  ) {
    effect(() => {
      const run = stream.run.value;
      for (const one of this.asked.peek().values()) if (one.question.run !== run) one.cancel();
    });
  }

  /** Whether the panes show a run that has ended. */
  get ready(): boolean {
    return this.stream.run.value > 0 && this.stream.status.value !== "running";
  }

  /** Ask for a pane's tokens, unless that was done for what it shows now. */
  want(pane: string): void {
    if (this.ready && this.asked.peek().get(pane)?.question.run !== this.stream.run.value) this.read(pane);
  }

  /** Ask once more for what failed or was cancelled. */
  again(pane: string): void {
    const status = this.question(pane)?.status.peek();
    if (status === "failed" || status === "cancelled") this.read(pane);
  }

  private read(pane: string): void {
    const run = this.stream.run.peek();
    this.asked.value = new Map(this.asked.peek()).set(pane, this.ask({ kind: "tokens", run, pane }));
  }

  /** The question about a pane as it is now; null where nobody asked. */
  question(pane: string): Asked<"tokens"> | null {
    const asked = this.asked.value.get(pane);
    return this.ready && asked?.question.run === this.stream.run.value ? asked : null;
  }

  /** What is known of a pane as it is now. */
  of(pane: string): TokensAnswer | null {
    return this.question(pane)?.answer.value ?? null;
  }
}
