/**
 * What a panel and steerlab's JupyterLab extension tell each other, besides what `host.ts` has: what is set for all panels,
 * where this panel stands, and that it is wanted. All of it goes by events: elsewhere nobody sends or hears them.
 */

/** What a person set for all panels; what is missing is as the panel has it. */
export interface Preferences {
  /** Whether a panel in which nobody has set anything shows the random control. */
  control?: boolean;
  animation?: "system" | "off";
}

const ASK = "steerlab:preferences";
const CHANGED = "steerlab:preferences-changed";

/** Asks the extension. It answers at once, with nothing while its settings are on their way to it. */
export function preferences(): Preferences {
  const detail: Preferences = {};
  document.dispatchEvent(new CustomEvent<Preferences>(ASK, { detail }));
  return detail;
}

/** Tells what is set, now and whenever it changes. */
export function watchPreferences(signal: AbortSignal, tell: (set: Preferences) => void): void {
  document.addEventListener(CHANGED, () => tell(preferences()), { signal });
  tell(preferences());
}

/** The extension's side: answers with what `give` gives, and returns what is to be called when that has changed. */
export function offerPreferences(give: () => Preferences): () => void {
  document.addEventListener(ASK, (event) => {
    Object.assign((event as CustomEvent<Preferences>).detail, give());
  });
  return () => document.dispatchEvent(new CustomEvent(CHANGED));
}

/** What a panel's header says. */
export interface Standing {
  model: string;
  backend: string;
  device: string;
  word: string;
  /** Its place in a server's queue, from 1, where it has one. */
  place: number | null;
}

const STANDS = "steerlab:stands";

/** From a panel's root; null once it is closed. */
export interface Told {
  root: Element;
  standing: Standing | null;
}

/** It goes to the document itself: a panel that is closed is out of the page already. */
export function tellStanding(told: Told): void {
  document.dispatchEvent(new CustomEvent<Told>(STANDS, { detail: told }));
}

export function hearStandings(hear: (told: Told) => void): void {
  document.addEventListener(STANDS, (event) => hear((event as CustomEvent<Told>).detail));
}

const CALL = "steerlab:call";

/** Wants a panel in view, with the keys in it; where its model is on a server, in the list of its jobs. */
export function call(root: Element): void {
  root.dispatchEvent(new CustomEvent(CALL));
}

export function watchCalls(root: Element, signal: AbortSignal, come: () => void): void {
  root.addEventListener(CALL, come, { signal });
}
