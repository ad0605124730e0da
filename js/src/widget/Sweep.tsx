/** The tab Sweep: layers x coefficients of a direction as a map that fills while it is measured, and the surgical frontier. */
import { useState } from "preact/hooks";
import { Frontier } from "./Frontier";
import { Segmented } from "./Segmented";
import { SweepGrid } from "./SweepGrid";
import type { TabProps } from "./tablist";

const VIEWS = [
  { value: "grid", title: "Layers × coefficients of addition" },
  { value: "frontier", title: "How few layers of ablation suffice, and what they cost" },
] as const;

export function Sweep({ store, open }: TabProps) {
  const known = store.questions.known.value.map(({ kind }) => kind);
  const [chosen, setView] = useState<"grid" | "frontier" | null>(null);
  const view = chosen ?? (known.includes("frontier") && !known.includes("sweep") ? "frontier" : "grid");
  const { steering } = store.state.value;
  const direction = steering[Math.min(store.selected.value, steering.length - 1)]?.direction;
  if (!direction) return <p class="sl-empty">This lab has no direction yet: find one above.</p>;
  return (
    <>
      <div class="sl-bar">
        <Segmented label="What is measured" options={VIEWS} value={view} onChange={(next) => setView(next)} />
        <p class="sl-sweep-title">
          {view === "grid" ? "Adding " : "Ablating "}
          <strong>{direction}</strong>
          {view === "grid" ? " at one layer at a time" : " at subsets of the layers"}
          {steering.length > 1 && "; another direction: choose its row above"}
        </p>
      </div>
      <div data-view="grid" hidden={view !== "grid"}>
        <SweepGrid store={store} direction={direction} open={open && view === "grid"} />
      </div>
      <div data-view="frontier" hidden={view !== "frontier"}>
        <Frontier store={store} direction={direction} open={open && view === "frontier"} />
      </div>
    </>
  );
}
