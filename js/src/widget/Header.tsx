/** Which model this is, and what it is doing. */
import { useRef } from "preact/hooks";
import type { Info } from "../protocol";
import { Help } from "./Help";
import { focusOn } from "./host";
import { Jobs } from "./Jobs";
import { doing } from "./standing";
import type { Store } from "./store";
import { useCalls } from "./useCalls";

export function Header({ store }: { store: Store }) {
  const { name, backend, device, n_layers, d_model, dtype } = store.info.value;
  const facts = modelFacts(store.info.value);
  const { undoable, redoable } = store.state.value;
  const { word, look } = doing(store);
  const header = useRef<HTMLDivElement>(null);
  useCalls(header, () => {
    header.current?.scrollIntoView({ block: "nearest" });
    const panel = header.current?.parentElement;
    if (panel && backend !== "ndif") focusOn(panel); // else its list of jobs takes it
  });
  return (
    <div ref={header} class="sl-header">
      <svg class="sl-logo" viewBox="0 0 24 24" aria-hidden="true">
        <path d="M5.6 18.4a9 9 0 1 1 12.8 0" />
        <path class="sl-hand" d="m12 12 4-4.5" />
        <circle cx="12" cy="12" r="2.2" />
      </svg>
      <h2>Steering lab</h2>
      <ul class="sl-model" aria-label="Model">
        <li class="sl-strong" title={facts.map(([fact, value]) => `${fact} ${value}`).join(", ")}>
          {name}
        </li>
        <li>{`${n_layers} layers × ${d_model}`}</li>
        <li>{backend}</li>
        <li title={dtype}>{device}</li>
      </ul>
      <div class="sl-tools">
        {backend === "ndif" ? (
          <Jobs store={store} word={word} look={look} />
        ) : (
          <span class="sl-status" role="status" data-look={look}>
            <span class="sl-dot" aria-hidden="true" />
            {word}
          </span>
        )}
        <div class="sl-history" role="group" aria-label="History">
          <Step
            name="Undo"
            keys="Ctrl+Z"
            path="M8 5 3.5 9.5 8 14M4 9.5h9a5.5 5.5 0 0 1 0 11H9"
            off={!undoable && !store.emptied}
            onClick={() => store.undo()}
          />
          <Step
            name="Redo"
            keys="Ctrl+Shift+Z"
            path="m16 5 4.5 4.5L16 14M20 9.5h-9a5.5 5.5 0 0 0 0 11h4"
            off={!redoable}
            onClick={() => store.redo()}
          />
        </div>
        <Help model={[["name", name], ...facts]} />
      </div>
    </div>
  );
}

/** What is known of the model: a narrow panel has no room for more than its name. */
function modelFacts({ backend, device, n_layers, d_model, dtype, revision }: Info): [string, string][] {
  const facts: [string, string][] = [
    ["size", `${n_layers} layers × ${d_model}`],
    ["backend", backend],
    ["device", device],
    ["precision", dtype],
  ];
  return revision ? [...facts, ["revision", revision]] : facts;
}

interface StepProps {
  name: string;
  keys: string;
  path: string;
  off: boolean;
  onClick(): void;
}

/** A button that keeps the focus when there is nothing left to step to. */
function Step({ name, keys, path, off, onClick }: StepProps) {
  return (
    <button
      type="button"
      class="sl-step"
      title={`${name} (${keys})`}
      aria-label={name}
      aria-disabled={off}
      onClick={() => off || onClick()}
    >
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d={path} />
      </svg>
    </button>
  );
}
