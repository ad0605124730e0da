/** One per widget model, shared by all of its views: what is set, what the kernel says, and whether there is a kernel. */
import type { AnyModel } from "@anywidget/types";
import { type Signal, signal } from "@preact/signals";
import type { FrontEndMessage, KernelMessage, PanelState, SteeringState, Traits } from "../protocol";
import { Pace } from "./pace";
import { Stream } from "./stream";

/** waiting: the kernel has not answered for a while. gone: what is sent cannot arrive. */
export type Connection = "live" | "waiting" | "gone";

const PATIENCE_MS = 3000;
const TYPING_MS = 450;

export class Store {
  readonly state: Signal<PanelState>;
  readonly info: Signal<Traits["info"]>;
  readonly directions: Signal<Traits["directions"]>;
  readonly examples: readonly string[];
  readonly page: string;
  readonly connection: Signal<Connection> = signal("live");
  /** The row whose sites are shown. */
  readonly selected: Signal<number> = signal(0);
  /** The number a row had in its other mode, by row and mode. */
  readonly remembered = new Map<string, number>();
  readonly stream: Stream;

  private readonly origin = Math.random().toString(36).slice(2);
  private readonly pace = new Pace(() => this.send({ kind: "run", state: this.state.value }));
  private typing: ReturnType<typeof setTimeout> | undefined;
  private unanswered: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly model: AnyModel<Traits>) {
    this.state = signal(model.get("state"));
    this.info = signal(model.get("info"));
    this.directions = signal(model.get("directions"));
    this.examples = model.get("examples");
    this.page = model.get("page");
    this.stream = new Stream(
      () => this.hello(),
      () => this.pace.landed(),
    );
    this.stream.show(model.get("result"));
    model.on("change:state", () => this.adopt(model.get("state")));
    model.on("change:info", () => {
      this.info.value = model.get("info");
    });
    model.on("change:directions", () => {
      this.directions.value = model.get("directions");
    });
    model.on("msg:custom", (message: KernelMessage) => this.receive(message));
    this.hello();
  }

  /** Change what is set; the steered text follows. "typing" waits for a pause, "now" for nothing. */
  edit(change: Partial<PanelState>, when: "soon" | "typing" | "now" = "soon"): void {
    this.state.value = { ...this.state.value, ...change, origin: this.origin };
    clearTimeout(this.typing);
    if (when === "now") this.pace.now();
    else if (when === "soon") this.pace.call();
    else this.typing = setTimeout(() => this.state.value.prompt.trim() && this.pace.call(), TYPING_MS);
  }

  editRow(index: number, change: Partial<SteeringState>): void {
    const steering = this.state.value.steering.map((row, i) => (i === index ? { ...row, ...change } : row));
    this.edit({ steering });
  }

  stop(): void {
    clearTimeout(this.typing);
    this.pace.cancel();
    this.send({ kind: "stop" });
  }

  /** The host says whether it has a connection to the kernel. */
  connected(yes: boolean): void {
    if (!yes) this.lost();
  }

  private hello(): void {
    this.send({ kind: "hello" });
  }

  private receive(message: KernelMessage): void {
    clearTimeout(this.unanswered);
    this.connection.value = "live";
    if (message.kind === "snapshot") this.adopt(message.state);
    this.stream.receive(message);
  }

  /** Take over a state that is newer than ours and not an echo of it, which may be older than the slider's last move. */
  private adopt(state: PanelState): void {
    const mine = this.state.value;
    if (state.revision <= mine.revision) return;
    if (state.origin === this.origin) {
      this.state.value = { ...mine, revision: state.revision };
      return;
    }
    clearTimeout(this.typing);
    this.pace.cancel();
    this.state.value = state;
  }

  private send(message: FrontEndMessage): void {
    if (this.connection.value === "gone") return;
    try {
      this.model.send(message);
    } catch {
      this.lost(); // the connection is closed: the kernel was restarted or shut down
      return;
    }
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => {
      if (this.connection.value === "live") this.connection.value = "waiting";
    }, PATIENCE_MS);
  }

  private lost(): void {
    clearTimeout(this.unanswered);
    this.connection.value = "gone";
    this.stream.settle();
  }
}
