/** What the page around the panel has to be told or asked; every host that lacks one of these things is fine without. */

/**
 * Keeps JupyterLab's notebook shortcuts (a, b, dd, the arrows) away from the panel's controls. They are matched in the
 * capture phase at `document`, before any handler of ours, and only this attribute on the focused element itself turns them
 * off. Ctrl, Meta and Alt pass, so that saving and the palette still work; Escape leaves the cell, as everywhere.
 */
export function watchKeys(root: HTMLElement, signal: AbortSignal): void {
  window.addEventListener(
    "keydown",
    (event) => {
      const target = event.target as Element;
      const passes = event.ctrlKey || event.metaKey || event.altKey || event.key === "Escape";
      if (root.contains(target)) target.toggleAttribute("data-lm-suppress-shortcuts", !passes);
    },
    { capture: true, signal },
  );
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
