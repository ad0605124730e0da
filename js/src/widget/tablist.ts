/** The tabs, in order. A tab is a component here, a style sheet in css/, and a module of its name in steerlab/ui. */
import type { FunctionComponent } from "preact";
import { Code } from "./Code";
import { DirectionsTab } from "./DirectionsTab";
import { Lens } from "./Lens";
import { Preview } from "./Preview";
import { Snapshots } from "./Snapshots";
import { Sweep } from "./Sweep";
import type { Store } from "./store";

export interface TabProps {
  store: Store;
  /** Whether it is in sight: one that is not rests, but keeps what it has. */
  open: boolean;
  /** Bring another tab into sight. */
  show(id: string): void;
}

export interface Tab {
  id: string;
  title: string;
  Body: FunctionComponent<TabProps>;
}

export const TABS: readonly Tab[] = [
  { id: "preview", title: "Preview", Body: Preview },
  { id: "sweep", title: "Sweep", Body: Sweep },
  { id: "lens", title: "Lens", Body: Lens },
  { id: "directions", title: "Directions", Body: DirectionsTab },
  { id: "snapshots", title: "Snapshots", Body: Snapshots },
  { id: "code", title: "Code", Body: Code },
];
