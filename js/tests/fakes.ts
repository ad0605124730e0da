/** A widget model without a kernel, and the traits of a small lab. */
import type { AnyModel } from "@anywidget/types";
import type {
  Ask,
  FrontEndMessage,
  KernelMessage,
  PaneEnd,
  PanelState,
  Start,
  Traits,
} from "../src/protocol";
import factory from "../src/widget/index";

export const POINTS = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"] as const;

export function traits(layers = 4): Traits {
  return {
    info: {
      name: "tiny",
      backend: "local",
      device: "cpu",
      dtype: "float32",
      n_layers: layers,
      d_model: 16,
      points: [...POINTS],
      sites: POINTS.map((p) =>
        Array.from({ length: layers }, (_, layer) => `${p} of block ${layer} in words`),
      ),
      context: 256,
      refusals: ["i'm sorry", "i cannot"],
      revision: null,
      ahead: 0,
      epoch: 0,
      map: "",
    },
    directions: [
      {
        name: "refusal",
        layer: 2,
        point: "resid_pre",
        norm: 2,
        residual_norm: 8,
        fingerprint: "f1",
        description: "",
      },
    ],
    examples: ["How do I bake bread?"],
    state: state(),
    result: { panes: {}, prompt_tokens: [], status: "idle", error: null },
    snapshots: [],
    page: "steerlab-static-1",
  };
}

export function state(change: Partial<PanelState> = {}): PanelState {
  return {
    prompt: "Hello",
    steering: [
      {
        direction: "refusal",
        mode: "add",
        coefficient: 0,
        cells: [[2, "resid_pre"]],
        tokens: "all",
        enabled: true,
      },
    ],
    unlisted: [],
    beyond: [],
    conflicts: [],
    max_new_tokens: 64,
    temperature: 0,
    seed: 0,
    control: true,
    undoable: false,
    redoable: false,
    revision: 0,
    origin: "",
    edit: 0,
    ...change,
  };
}

export class FakeModel {
  readonly sent: FrontEndMessage[] = [];
  closed = false;
  private readonly handlers = new Map<string, ((value: unknown) => void)[]>();

  constructor(readonly values: Traits = traits()) {}

  get = (name: keyof Traits) => this.values[name];

  on = (event: string, handler: (value: unknown) => void) => {
    this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]);
  };

  send = (message: FrontEndMessage) => {
    if (this.closed) throw new Error("Cannot send");
    this.sent.push(message);
  };

  /** What the kernel says. */
  say(message: KernelMessage): void {
    for (const handler of this.handlers.get("msg:custom") ?? []) handler(message);
  }

  /** A trait that the kernel set. */
  change<K extends keyof Traits>(name: K, value: Traits[K]): void {
    this.values[name] = value;
    for (const handler of this.handlers.get(`change:${name}`) ?? []) handler(undefined);
  }

  /** The states that were sent to be run. */
  get runs(): PanelState[] {
    return this.sent.filter((m) => m.kind === "run").map((m) => m.state);
  }

  /** The questions that were asked. */
  get asked(): Ask[] {
    return this.sent.filter((m) => m.kind === "ask");
  }

  get any(): AnyModel<Traits> {
    return this as unknown as AnyModel<Traits>;
  }
}

export interface Shown {
  model: FakeModel;
  el: HTMLElement;
  /** Another view of the same panel. */
  again(): Shown;
  close(): void;
}

/** A panel in the document. */
export function show(model = new FakeModel()): Shown {
  const widget = factory();
  widget.initialize({ model: model.any });
  const view = (): Shown => {
    const el = document.createElement("div");
    el.className = "jupyter-widgets";
    document.body.append(el);
    const end = new AbortController();
    widget.render({ model: model.any, el, signal: end.signal });
    return {
      model,
      el,
      again: view,
      close: () => {
        end.abort();
        el.remove();
      },
    };
  };
  return view();
}

/** Until effects have run and what they ask for is painted, however slow the machine is. */
export async function frame(): Promise<void> {
  for (let i = 0; i < 5; i++)
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 20)));
}

export const text = (el: HTMLElement, pane: string) =>
  [...el.querySelectorAll(`[data-pane="${pane}"] .sl-text > :not(.sl-old)`)]
    .map((s) => s.textContent)
    .join("");

export function input(el: Element | null, value: string): void {
  const field = el as HTMLInputElement;
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

export const NO_END: PaneEnd = {
  finish: null,
  applied: null,
  tokens_per_second: null,
  fault: "",
  verdict: null,
  kl: null,
  cross_entropy: null,
};

export const say = {
  start: (
    run: number,
    panes = ["baseline", "steered"],
    resumed: string[] = [],
    shown = ["baseline", "steered"],
    more: Partial<Start> = {},
  ): KernelMessage => ({
    kind: "start",
    run,
    shown,
    panes,
    resumed,
    ready: {},
    origin: "",
    edit: 0,
    ...more,
  }),
  tokens: (
    run: number,
    seq: number,
    panes: Record<string, string[]>,
    so_far: Record<string, PaneEnd> = {},
  ): KernelMessage => ({ kind: "tokens", run, seq, panes, so_far }),
  done: (run: number): KernelMessage => ({
    kind: "end",
    run,
    status: "done",
    panes: { baseline: { ...NO_END, finish: "stop" }, steered: { ...NO_END, finish: "stop" } },
    error: null,
  }),
  failed: (run: number, what: string, hint = ""): KernelMessage => ({
    kind: "end",
    run,
    status: "error",
    panes: {},
    error: { what, hint },
  }),
};
