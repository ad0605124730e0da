/** Questions to the kernel, and what comes of them. A tab asks with `store.ask`, or with `useAsk` where an answer follows the state. */
import { batch, type Signal, signal } from "@preact/signals";
import type {
  Answer,
  Asks,
  Failure,
  FrontEndMessage,
  Part,
  Progress,
  Question,
  Snapshot,
  Trouble,
} from "../protocol";
import { spotKey } from "./sweeps";

export type Kind = keyof Asks;
/** gone: it was to be joined, and its answer is not kept any more. */
export type Status = "going" | "answered" | "failed" | "cancelled" | "gone";

const GONE: Trouble = {
  what: "the kernel is gone",
  hint: "Run the notebook’s cells again, up to this panel, then ask again.",
};

/** Two parts in a row as one, of what sends many. */
const MERGE: { [K in Kind]?: (before: Asks[K]["part"], now: Asks[K]["part"]) => Asks[K]["part"] } = {
  sweep: (before, now) => {
    const cells = new Map([...before.cells, ...now.cells].map((cell) => [spotKey(cell), cell]));
    return { ...now, cells: [...cells.values()] };
  },
};

/** One question, followed to its end. */
export class Asked<K extends Kind = Kind> {
  readonly status: Signal<Status> = signal("going");
  readonly progress: Signal<Progress | null> = signal(null);
  /** What is ready so far, in order, or merged. */
  readonly parts: Signal<readonly Asks[K]["part"][]> = signal([]);
  readonly answer: Signal<Asks[K]["answer"] | null> = signal(null);
  readonly error: Signal<Trouble | null> = signal(null);

  constructor(
    readonly id: string,
    readonly question: Asks[K]["question"],
    private readonly end: (id: string, everyone: boolean) => void,
  ) {}

  /** A person ends it, for every view; what is ready of it stays. */
  cancel(): void {
    this.stop(true);
  }

  /** Whoever asked does not want it any more; others may. */
  leave(): void {
    this.stop(false);
  }

  private stop(everyone: boolean): void {
    if (this.status.value !== "going") return;
    this.status.value = "cancelled";
    this.end(this.id, everyone);
  }

  /** From the kernel. */
  take(message: Progress | Part | Answer | Failure): void {
    batch(() => {
      switch (message.kind) {
        case "progress":
          this.progress.value = message;
          break;
        case "part":
          this.parts.value = this.with(message.part);
          break;
        case "answer":
          this.answer.value = message.answer;
          this.status.value = "answered";
          break;
        case "failure":
          if (message.gone) this.status.value = "gone";
          else this.fail(message.error);
          break;
      }
    });
  }

  private with(part: Asks[K]["part"]): readonly Asks[K]["part"][] {
    const merge = MERGE[this.question.kind as K];
    const last = this.parts.value.at(-1);
    return merge && last ? [merge(last, part)] : [...this.parts.value, part];
  }

  fail(error: Trouble): void {
    this.error.value = error;
    this.status.value = "failed";
  }
}

/** Every question of this page that is still open. Answers to other pages of the same kernel come here too, and are let pass. */
export class Questions {
  /** What the kernel was answering when this page last said hello, then what it keeps the answer to: `join` takes part. */
  readonly known: Signal<readonly Question[]> = signal([]);
  private readonly shared = new Map<string, Signal<Asked | null>>();
  private readonly open = new Map<string, Asked>();
  private count = 0;

  constructor(
    private readonly origin: string,
    private readonly send: (message: FrontEndMessage) => void,
  ) {}

  ask<Q extends Question>(what: Q): Asked<Q["kind"]> {
    return this.put(what, false);
  }

  /** Take part in the answer to a question that is known; one that is gone meanwhile is not begun anew. */
  join<Q extends Question>(what: Q): Asked<Q["kind"]> {
    return this.put(what, true);
  }

  /** The newest question of a place of the panel, which all views have in common. */
  newest(place: string): Signal<Asked | null> {
    const newest = this.shared.get(place) ?? signal(null);
    this.shared.set(place, newest);
    return newest;
  }

  private put<Q extends Question>(what: Q, join: boolean): Asked<Q["kind"]> {
    const id = `${this.origin}-${++this.count}`;
    const asked = new Asked<Q["kind"]>(id, what, (one, everyone) => {
      this.open.delete(one);
      this.send({ kind: "cancel", id: one, everyone });
    });
    this.open.set(id, asked as unknown as Asked);
    this.send({ kind: "ask", id, what, join });
    return asked;
  }

  receive(message: Progress | Part | Answer | Failure): void {
    this.open.get(message.id)?.take(message);
    if (message.kind === "answer" || message.kind === "failure") this.open.delete(message.id);
  }

  greeted(snapshot: Snapshot): void {
    this.known.value = snapshot.asking.map((ask) => ask.what);
  }

  /** The kernel is gone, and so is every answer. */
  lost(): void {
    for (const asked of this.open.values()) asked.fail(GONE);
    this.open.clear();
    this.known.value = [];
  }
}
