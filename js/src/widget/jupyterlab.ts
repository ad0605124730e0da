/**
 * What a panel and steerlab's JupyterLab extension tell each other, besides what `host.ts` has: what is set for all panels. It
 * goes by events: elsewhere nobody sends or hears them.
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
