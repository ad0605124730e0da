/** What the page around the panel has to be told or asked; every host that lacks one of these things is fine without. */
import type { PanelState, Trouble } from "../protocol";
import { watchPreferences } from "./jupyterlab";

/**
 * Keeps JupyterLab's notebook shortcuts (a, b, dd, the arrows) away from the panel's controls. They are matched in the
 * capture phase at `document`, before any handler of ours, and only this attribute on the focused element itself turns them
 * off. Ctrl, Meta and Alt pass, so that saving and the palette still work, but for the panel's own undo; Escape leaves the cell,
 * as everywhere, but where it closes a menu or ends a field.
 */
export function watchKeys(root: HTMLElement, signal: AbortSignal): void {
  window.addEventListener(
    "keydown",
    (event) => {
      const target = event.target as Element;
      const modified = event.ctrlKey || event.metaKey || event.altKey;
      const passes =
        (modified && !isUndo(event)) ||
        (event.key === "Escape" && !target.closest("[role=menu], [data-escape]"));
      if (root.contains(target)) target.toggleAttribute("data-lm-suppress-shortcuts", !passes);
    },
    { capture: true, signal },
  );
}

/** Ctrl+Z or Cmd+Z; with Shift it means redo. */
export function isUndo(event: KeyboardEvent): boolean {
  return (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z";
}

/**
 * Keeps to the panel what happens to the selection inside of its fields. Chromium tells it of every number that is set, and at
 * `document` each editor of the notebook would measure the page for it, before the frame with the number.
 */
export function watchSelection(root: HTMLElement, signal: AbortSignal): void {
  const keep = (event: Event) => event.stopPropagation();
  root.addEventListener("selectionchange", keep, { signal });
}

/**
 * Keeps the keys in the panel when what has the focus goes, as a button does that has done its work: else undo, and every
 * other key, would be the page's. The focus goes to the nearest thing around it that has a name and is still there.
 */
export function watchFocus(root: HTMLElement, signal: AbortSignal): void {
  let path: HTMLElement[] = [];
  const stays = (el: HTMLElement | undefined) =>
    el?.isConnected && !el.matches(":disabled, [hidden], [hidden] *");
  root.addEventListener(
    "focusin",
    ({ target }) => {
      path = [];
      for (let el = target as HTMLElement | null; el && el !== root; el = el.parentElement) path.push(el);
    },
    { signal },
  );
  root.addEventListener(
    "focusout",
    ({ relatedTarget }) => {
      if (relatedTarget) path = [];
      else
        queueMicrotask(() => {
          if (stays(path[0]) && document.activeElement !== path[0]) path = []; // somebody left it
        });
    },
    { capture: true, signal }, // before anything that goes because of it
  );
  const keep = () => {
    if (!document.hasFocus()) return; // it is in another frame, or another window: nobody's focus is taken
    const at = document.activeElement;
    const elsewhere = at !== path[0] && at?.isConnected && at !== document.body;
    if (!path.length || stays(path[0]) || elsewhere) return;
    const near = path.find((el) => stays(el) && el.matches("[aria-label], [aria-labelledby]"));
    path = [];
    if (near) focusOn(near);
  };
  const watch = new MutationObserver(keep);
  watch.observe(root, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: ["disabled", "hidden"],
  });
  signal.addEventListener("abort", () => watch.disconnect());
}

/** Gives the focus to what cannot have it by itself, until it goes on. */
export function focusOn(el: HTMLElement): void {
  if (!el.hasAttribute("tabindex")) {
    el.tabIndex = -1;
    const leave = () => {
      if (document.activeElement === el) return; // the window did
      el.removeAttribute("tabindex");
      el.removeEventListener("blur", leave);
    };
    el.addEventListener("blur", leave);
  }
  el.focus({ preventScroll: true });
}

/** Acts once an element is in the page: a widget is drawn before its host puts it there, which may be much later. */
export function whenShown(el: Element, signal: AbortSignal, act: () => void): void {
  if (el.isConnected) {
    act();
    return;
  }
  const watch = new ResizeObserver(() => {
    if (!el.isConnected) return;
    watch.disconnect();
    act();
  });
  watch.observe(el);
  signal.addEventListener("abort", () => watch.disconnect());
}

/** Brings a panel's directions into sight, and the keys to them: undo is the panel's from here. */
export function goToDirections(root: Element): void {
  const directions = root.querySelector<HTMLElement>('[aria-label="Directions"]');
  if (!directions) return;
  directions.scrollIntoView({ block: "nearest" });
  focusOn(directions);
}

/** Tells when the pointer that was pressed in the panel is up again, wherever that is. */
export function watchRelease(signal: AbortSignal, tell: () => void): void {
  for (const event of ["pointerup", "pointercancel"]) window.addEventListener(event, tell, { signal });
}

/** Tells when the page goes away: a reload, or another address. */
export function watchLeaving(signal: AbortSignal, tell: () => void): void {
  window.addEventListener("pagehide", tell, { signal });
}

/** Sets data-theme: from JupyterLab and Notebook, from VS Code, else from the system. */
export function watchTheme(root: HTMLElement, signal: AbortSignal): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const { jpThemeLight, vscodeThemeKind } = document.body.dataset;
    const dark = jpThemeLight
      ? jpThemeLight === "false"
      : (vscodeThemeKind?.includes("dark") ?? system.matches);
    root.dataset.theme = dark ? "dark" : "light";
  };
  const watch = new MutationObserver(follow);
  watch.observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"] });
  signal.addEventListener("abort", () => watch.disconnect());
  system.addEventListener("change", follow, { signal });
  follow();
}

/** Sets data-motion to "off" where the system asks for no motion, or somebody did for all panels. */
export function watchMotion(root: HTMLElement, signal: AbortSignal): void {
  const system = matchMedia("(prefers-reduced-motion: reduce)");
  let off = false;
  const follow = () => {
    root.dataset.motion = off || system.matches ? "off" : "on";
  };
  system.addEventListener("change", follow, { signal });
  watchPreferences(signal, ({ animation }) => {
    off = animation === "off";
    follow();
  });
}

/** What steerlab's JupyterLab extension tells a panel whose kernel was shut down or died: the host itself keeps silent. */
export const KERNEL_GONE = "steerlab:kernel-gone";

/** ipywidgets marks the view's element `el` when its connection to the kernel is closed, or was never there. */
export function watchConnection(el: HTMLElement, signal: AbortSignal, tell: (yes: boolean) => void): void {
  const look = () => tell(!el.closest(".jupyter-widgets-disconnected"));
  const watch = new MutationObserver(look);
  watch.observe(el, { attributeFilter: ["class"] });
  signal.addEventListener("abort", () => watch.disconnect());
  el.addEventListener(KERNEL_GONE, () => tell(false), { signal });
  look();
}

/**
 * Asks the host to put source into a new cell below the panel's. A host that can takes the event, by `preventDefault`; without
 * a source it only says that it can. steerlab's JupyterLab extension listens; nobody else has to.
 */
export const INSERT_CELL = "steerlab:insert-cell";

export interface InsertCell {
  source: string | null;
}

function asksHost(el: Element, detail: InsertCell): boolean {
  return !el.dispatchEvent(
    new CustomEvent<InsertCell>(INSERT_CELL, { bubbles: true, cancelable: true, detail }),
  );
}

export const insertsCells = (el: Element) => asksHost(el, { source: null });
export const insertCell = (el: Element, source: string) => asksHost(el, { source });

/** Gives a panel files, as if they had been chosen in it; what came of it, null for good. */
const TAKE_FILES = "steerlab:take-files";

interface TakeFiles {
  files: readonly File[];
  done?: Promise<Trouble | null>;
}

const OLDER: Trouble = {
  what: "the panel does not take files from elsewhere, because its steerlab is an older one",
  hint: "Update steerlab where its kernel runs, or choose the file in the panel: “+ load a file…”.",
};

export async function giveFiles(root: Element, files: readonly File[]): Promise<Trouble | null> {
  const detail: TakeFiles = { files };
  const refused = root.dispatchEvent(new CustomEvent<TakeFiles>(TAKE_FILES, { cancelable: true, detail }));
  return refused || !detail.done ? OLDER : detail.done;
}

export function watchFiles(
  root: HTMLElement,
  signal: AbortSignal,
  take: (files: readonly File[]) => Promise<Trouble | null>,
): void {
  root.addEventListener(
    TAKE_FILES,
    (event) => {
      const { detail } = event as CustomEvent<TakeFiles>;
      event.preventDefault();
      detail.done = take(detail.files);
    },
    { signal },
  );
}

/** What a panel is set to, and on which model; of snapshots the names. */
export interface Setting {
  model: string;
  state: PanelState;
  snapshots: string[];
}

/**
 * Asks the host to run the notebook's cells again, from the first to the panel's, and to give the panels that then stand there
 * what these were set to. A host that can takes the event, as above, and puts a promise into it, of whether all cells ran;
 * unless they are to be run it only says that it can. One that cannot may know what a person can do instead.
 */
export const RUN_CELLS = "steerlab:run-cells";

export interface RunCells {
  run: boolean;
  done?: Promise<boolean>;
  instead?: string;
}

function asksToRun(el: Element, detail: RunCells): boolean {
  return !el.dispatchEvent(new CustomEvent<RunCells>(RUN_CELLS, { bubbles: true, cancelable: true, detail }));
}

/** Whether the host can; else, where it knows, what a person can do. */
export function runsCells(el: Element): { can: boolean; instead?: string } {
  const detail: RunCells = { run: false };
  return { can: asksToRun(el, detail), instead: detail.instead };
}

export async function runCells(el: Element): Promise<boolean> {
  const detail: RunCells = { run: true };
  asksToRun(el, detail);
  return (await detail.done) ?? false;
}

/** Asks a panel what it is set to, for the one that takes its place, and tells that one. */
const HAND_OVER = "steerlab:hand-over";
const TAKE_OVER = "steerlab:take-over";

interface HandOver {
  setting?: Setting;
}

export function settingOf(root: Element): Setting | undefined {
  const detail: HandOver = {};
  root.dispatchEvent(new CustomEvent<HandOver>(HAND_OVER, { detail }));
  return detail.setting;
}

export function setAs(root: Element, setting: Setting): void {
  root.dispatchEvent(new CustomEvent<Setting>(TAKE_OVER, { detail: setting }));
}

export function watchTakeOver(
  root: HTMLElement,
  signal: AbortSignal,
  give: () => Setting,
  take: (setting: Setting) => void,
): void {
  root.addEventListener(
    HAND_OVER,
    (event) => {
      (event as CustomEvent<HandOver>).detail.setting = give();
    },
    { signal },
  );
  root.addEventListener(TAKE_OVER, (event) => take((event as CustomEvent<Setting>).detail), { signal });
}

/** What the host may know of a panel. */
export interface About {
  /** The id of the widget, by which another view of it can be shown. */
  widget: string;
  /** Whether there is a kernel that it is the panel of. */
  live: boolean;
  /** The recipe as a cell, as the tab Code offers it first. Fails, in words, where it cannot be had. */
  code(): Promise<string>;
}

const ASK_ABOUT = "steerlab:about";

interface AskAbout {
  about?: About;
}

export function aboutOf(root: Element): About | undefined {
  const detail: AskAbout = {};
  root.dispatchEvent(new CustomEvent<AskAbout>(ASK_ABOUT, { detail }));
  return detail.about;
}

export function watchAbout(root: HTMLElement, signal: AbortSignal, give: () => About): void {
  root.addEventListener(
    ASK_ABOUT,
    (event) => {
      (event as CustomEvent<AskAbout>).detail.about = give();
    },
    { signal },
  );
}

/** Puts text into the clipboard; without https there is only the old way. Returns whether it is there. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = document.createElement("textarea");
    box.value = text;
    box.style.position = "fixed";
    box.style.opacity = "0";
    const before = document.activeElement as HTMLElement | null;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    before?.focus();
    return done;
  }
}
