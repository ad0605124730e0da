/** One per widget model, shared by all of its views: what is set, what the kernel says, and whether there is a kernel. */
import type { AnyModel } from "@anywidget/types";
import { effect, type Signal, signal } from "@preact/signals";
import type {
  FrontEndMessage,
  Job,
  KernelMessage,
  PanelState,
  Question,
  SteeringState,
  Traits,
  Trouble,
} from "../protocol";
import { Ahead } from "./ahead";
import { type Asked, Questions } from "./asks";
import { Details } from "./details";
import { Gestures, thing } from "./gestures";
import type { Setting } from "./host";
import type { Preferences } from "./jupyterlab";
import { type Known, merged, same } from "./merge";
import { Pace } from "./pace";
import { Stream } from "./stream";

/** waiting: the kernel has not answered for a while. gone: what is sent cannot arrive. */
export type Connection = "live" | "waiting" | "gone";

const PATIENCE_MS = 3000;
const UNHURRIED = new Set(["ask", "cancel", "scrub"]);
const TYPING_MS = 450;
const REST_MS = 120; // after which nobody seems to be doing anything

type When = "soon" | "typing" | "now";

/** A change, of whatever is set when it is made. */
type Edit = (state: PanelState) => Partial<PanelState>;

export class Store {
  readonly state: Signal<PanelState>;
  readonly info: Signal<Traits["info"]>;
  readonly directions: Signal<Traits["directions"]>;
  readonly snapshots: Signal<Traits["snapshots"]>;
  readonly examples: readonly string[];
  readonly page: string;
  readonly connection: Signal<Connection> = signal("live");
  /** What a server does for this lab, while it does something. */
  readonly job: Signal<Job | null> = signal(null);
  /** What could not be taken over from a panel that was here before, until something else is set. */
  readonly missing: Signal<Trouble | null> = signal(null);
  /** The row whose sites are shown. */
  readonly selected: Signal<number> = signal(0);
  /** What was set when costs were asked for by hand, as they are where each question is a job on a server, and at which row. */
  readonly weighed: Signal<(Pick<PanelState, "prompt" | "steering"> & { row: number }) | null> = signal(null);
  /** The number a row had in its other mode, by row and mode. */
  readonly remembered = new Map<string, number>();
  readonly stream: Stream;
  readonly questions: Questions;
  readonly details: Details;
  /** Texts that are ready for the sliders. */
  readonly ahead = new Ahead();

  private readonly origin = Math.random().toString(36).slice(2);
  private readonly pace = new Pace(() => {
    this.sent = this.state.value;
    this.told = this.sent.prompt;
    this.send({ kind: "run", state: this.sent, gesture: this.gesture });
  });
  private readonly gestures = new Gestures(this.origin);
  private gesture = "";
  /** What the kernel had set when it last told, and what it was sent since. */
  private known: Known;
  private sent: PanelState | undefined;
  /** The prompt that was sent last, or came from elsewhere: an emptied one is not sent. */
  private told: string;
  /** How many undos and redos are under way, and what was changed since. */
  private awaited = 0;
  private since: [Edit, When][] = [];
  private edits = 0;
  private resting: ReturnType<typeof setTimeout> | undefined;
  private typing: ReturnType<typeof setTimeout> | undefined;
  private unanswered: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly model: AnyModel<Traits>,
    private preferred: Preferences = {},
  ) {
    this.state = signal(model.get("state"));
    this.told = this.state.value.prompt;
    this.info = signal(model.get("info"));
    this.directions = signal(model.get("directions"));
    this.known = this.now(this.state.value);
    this.snapshots = signal(model.get("snapshots"));
    this.examples = model.get("examples");
    this.page = model.get("page");
    this.questions = new Questions(this.origin, (message) => this.send(message));
    this.stream = new Stream(
      this.origin,
      () => this.hello(),
      () => this.pace.landed(),
    );
    this.details = new Details(this.stream, (what) => this.ask(what));
    this.stream.show(model.get("result"));
    model.on("change:state", () => this.adopt(model.get("state")));
    model.on("change:info", () => {
      const info = model.get("info");
      if (info.epoch !== this.info.peek().epoch) this.ahead.clear();
      this.info.value = info;
    });
    model.on("change:directions", () => {
      this.ahead.clear(); // a name may mean another vector now
      this.directions.value = model.get("directions");
    });
    model.on("change:snapshots", () => {
      this.snapshots.value = model.get("snapshots");
    });
    model.on("msg:custom", (message: KernelMessage) => this.receive(message));
    this.hello();
    effect(() => this.rest());
  }

  /** Change what is set; the steered text follows. "typing" waits for a pause, "now" for nothing. */
  edit(change: Partial<PanelState>, when: When = "soon", again: Edit = () => change): void {
    if (this.awaited) {
      this.since.push([again, when]);
      this.state.value = { ...this.state.value, ...change };
      return;
    }
    const what = thing(this.state.value, change);
    const gesture = what ? this.gestures.next(what) : this.gesture; // to run again is to change nothing
    if (gesture !== this.gesture) this.flush();
    this.gesture = gesture;
    this.missing.value = null;
    this.state.value = { ...this.state.value, ...change, origin: this.origin, edit: ++this.edits };
    this.stopTyping();
    const ready = when === "typing" ? null : this.ahead.lookup(this.state.value);
    if (ready) this.stream.lead(this.edits, ready);
    if (when === "now") this.pace.now();
    else if (when === "soon") this.pace.call({ shown: ready !== null });
    else this.awaitPause();
  }

  /** Send what is typed once nothing more is; an empty prompt never. */
  private awaitPause(): void {
    this.typing = setTimeout(() => {
      this.typing = undefined;
      if (this.state.value.prompt.trim()) this.pace.call();
    }, TYPING_MS);
  }

  /** Change the list of rows, whichever they are when it is done. */
  editRows(change: (rows: readonly SteeringState[]) => SteeringState[]): void {
    const again = ({ steering }: PanelState) => ({ steering: change(steering) });
    this.edit(again(this.state.value), "soon", again);
  }

  editRow(index: number, change: Partial<SteeringState>): void {
    this.editRows((rows) => rows.map((row, i) => (i === index ? { ...row, ...change } : row)));
  }

  /** What a panel that takes this one's place is to be set to. */
  get setting(): Setting {
    const snapshots = this.snapshots.value.map(({ name }) => name);
    return { model: this.info.value.name, state: this.state.value, snapshots };
  }

  /** Set what a panel was set to before its kernel went, as one change; what only Python can set again is named. */
  takeOver({ model, state, snapshots }: Setting): void {
    const { prompt, max_new_tokens, temperature, seed, control } = state;
    const mine = this.setting;
    const known = new Set(this.directions.value.map(({ name }) => name));
    const same = model === mine.model;
    const steering = same ? state.steering.filter((row) => known.has(row.direction)) : mine.state.steering;
    this.edit({ prompt, steering, max_new_tokens, temperature, seed, control }, "now");
    const directions = state.steering.map((row) => row.direction).filter((name) => !known.has(name));
    const gone = [
      ...(same ? named("the direction", directions) : []),
      ...(same ? named("the step", without(state.beyond, mine.state.beyond)) : []),
      ...named("the snapshot", without(snapshots, mine.snapshots)),
    ].join("; ");
    if (!same)
      this.missing.value = {
        what: `the recipe was set for ${model}, and this lab is of ${mine.model}`,
        hint: `The prompt and the sampling are as they were.${gone && ` Gone: ${gone}.`}`,
      };
    else if (gone)
      this.missing.value = {
        what: "not everything came back with the new kernel",
        hint: `Gone: ${gone}. Python or a file can set it again; all else is as it was.`,
      };
  }

  /** A pointer is pressed in the panel, or released: what happens in between is undone together. */
  hold(held: boolean): void {
    this.gestures.hold(held);
  }

  /** Whether the prompt was emptied here, of which the kernel is not told. */
  get emptied(): boolean {
    const { prompt } = this.state.value;
    return !prompt.trim() && prompt !== this.told;
  }

  /** Take the last change back, in every view. */
  undo(): void {
    this.missing.value = null;
    this.flush();
    if (this.since.length) this.since.pop();
    else if (this.emptied) this.state.value = { ...this.state.value, prompt: this.told };
    else this.go("undo");
  }

  redo(): void {
    this.missing.value = null;
    this.flush();
    this.go("redo");
  }

  private go(kind: "undo" | "redo"): void {
    this.awaited++;
    this.send({ kind });
  }

  /** Undo or redo was answered: what was changed meanwhile is changed in what came of it. */
  private answered(): void {
    if (this.awaited === 0 || --this.awaited > 0) return;
    for (const [again, when] of this.since.splice(0)) this.edit(again(this.state.value), when);
  }

  /** Ask the kernel something; follow the answer by the signals of what comes back. */
  ask<Q extends Question>(what: Q): Asked<Q["kind"]> {
    return this.questions.ask(what);
  }

  /** End what is running; what is set stays set, in the kernel too. */
  stop(): void {
    this.flush();
    this.send({ kind: "stop" });
  }

  /** The host says whether it has a connection to the kernel. */
  connected(yes: boolean): void {
    if (!yes) this.lost();
  }

  /** What is set for all panels has changed, or is known by now; whether it holds for this one the kernel says. */
  prefer(set: Preferences): void {
    const before = this.preferred;
    this.preferred = set;
    if (set.control !== before.control) this.hello();
  }

  /** Send what waits, before something else is done. */
  flush(): void {
    const typed = this.typing !== undefined && this.state.value.prompt.trim() !== "";
    this.stopTyping();
    if (typed || this.pace.pending) this.pace.now();
  }

  /** Once nothing has been going on for a moment, have the texts beside the slider's made. */
  private rest(): void {
    const idle = this.stream.status.value === "done" && this.connection.value === "live";
    const { ahead } = this.info.value;
    const state = this.state.value;
    const row = this.selected.value;
    clearTimeout(this.resting);
    if (!idle || !ahead) return;
    this.resting = setTimeout(() => {
      if (this.pace.pending || this.typing) return;
      const direction = this.directions.value.find((d) => d.name === state.steering[row]?.direction);
      const coefficients = this.ahead.wanted(state, row, direction, ahead);
      if (coefficients.length)
        this.send({ kind: "scrub", revision: this.state.value.revision, row, coefficients });
    }, REST_MS);
  }

  private stopTyping(): void {
    clearTimeout(this.typing);
    this.typing = undefined;
  }

  private hello(): void {
    this.send({ kind: "hello", control: this.preferred.control ?? null });
  }

  private receive(message: KernelMessage): void {
    clearTimeout(this.unanswered);
    this.connection.value = "live";
    switch (message.kind) {
      case "progress":
      case "part":
      case "answer":
      case "failure":
        this.questions.receive(message);
        break;
      case "job":
        this.job.value = message.stage ? message : null;
        break;
      case "complaint":
        this.known = this.now(this.state.value); // what was refused is not put upon what is told next
        this.stream.receive(message);
        break;
      case "ready":
        this.ahead.take(message, this.state.value);
        break;
      case "snapshot":
        this.adopt(message.state);
        this.answered(); // there was nothing to undo
        this.questions.greeted(message);
        this.stream.receive(message);
        break;
      default:
        this.stream.receive(message);
    }
  }

  private now(state: PanelState): Known {
    return { state, directions: this.directions.value };
  }

  /**
   * Take over a state that is newer than ours. Of an echo, which may be older than the slider's last move, only what the kernel
   * adds; of any other all but what was changed here that the kernel has not taken: it drops what was sent too late for it.
   */
  private adopt(state: PanelState): void {
    const mine = this.state.value;
    if (state.revision <= mine.revision) return;
    const told = this.now(state);
    if (state.origin === this.origin) {
      this.known = told;
      const { revision, undoable, redoable, beyond, conflicts } = state;
      this.state.value = { ...mine, revision, undoable, redoable, beyond, conflicts };
      return;
    }
    const kept = this.keep(mine, told);
    const typed =
      (this.typing !== undefined || this.emptied) && same({ ...kept, prompt: "" }, { ...state, prompt: "" });
    this.stopTyping();
    this.pace.cancel();
    this.ahead.clear(); // it may hold what the panel has no row for
    this.known = told;
    this.sent = undefined;
    this.told = state.prompt;
    const whole = same(kept, state);
    this.state.value = whole ? state : { ...kept, origin: this.origin, edit: this.edits };
    if (!whole && typed) this.awaitPause();
    else if (!whole) this.pace.call();
    this.answered();
  }

  /** What is told, with what was changed here since the kernel told before. */
  private keep(mine: PanelState, told: Known): PanelState {
    // where the kernel took what was sent, and something else set more at once, that is an answer to it
    const taken = !told.state.origin && this.sent?.edit === told.state.edit;
    const base = { ...this.known, state: (taken && this.sent) || this.known.state };
    if (told.state.prompt === this.told) base.state = { ...base.state, prompt: this.told };
    // what is to be taken back is not kept; what was changed since then is changed again
    const prompt = this.emptied ? mine.prompt : base.state.prompt;
    return merged(base, this.awaited ? { ...base.state, prompt } : mine, told);
  }

  private send(message: FrontEndMessage): void {
    if (this.connection.value === "gone") return;
    try {
      this.model.send(message);
    } catch {
      this.lost(); // the connection is closed: the kernel was restarted or shut down
      return;
    }
    if (UNHURRIED.has(message.kind)) return; // an answer may take its time
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => {
      if (this.connection.value === "live") this.connection.value = "waiting";
    }, PATIENCE_MS);
  }

  private lost(): void {
    clearTimeout(this.unanswered);
    this.connection.value = "gone";
    this.awaited = 0;
    this.since = [];
    this.job.value = null;
    this.stream.settle();
    this.questions.lost();
    this.ahead.clear();
  }
}

function without(some: readonly string[], others: readonly string[]): string[] {
  return some.filter((one) => !others.includes(one));
}

/** "the snapshot a", "the snapshots a, b", or nothing. */
function named(what: string, names: readonly string[]): string[] {
  const once = [...new Set(names)];
  return once.length ? [`${what}${once.length > 1 ? "s" : ""} ${once.join(", ")}`] : [];
}
