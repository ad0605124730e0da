import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { INSERT_CELL } from "../src/widget/host";
import { TABS } from "../src/widget/tablist";
import { type FakeModel, frame, type Shown, show, state } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const tab = (el: HTMLElement, name: string) => el.querySelector<HTMLElement>(`[data-tab="${name}"]`);
const shown = (el: HTMLElement) =>
  [...el.querySelectorAll<HTMLElement>('[role="tabpanel"]')].filter((one) => !one.hidden);
const press = (key: string, init: KeyboardEventInit = {}) =>
  document.activeElement?.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init }),
  );

const missing = { what: "no folder is known", hint: "Say it." };

function answer(model: FakeModel, source = "recipe = 1\n"): void {
  const id = model.asked.at(-1)?.id ?? "";
  const forms = [
    { name: "steerlab", title: "Here", language: "python" as const, source, missing: null },
    { name: "nnsight", title: "Bare", language: "python" as const, source: "", missing },
  ];
  model.say({ kind: "answer", id, answer: { forms } });
}

test("arrows walk through the tabs and round, and one tab at a time can be tabbed to", async () => {
  const { el } = panel;
  const ids = TABS.map(({ id }) => id);
  const [second = ""] = ids.slice(1);
  tab(el, "preview")?.focus();
  press("ArrowRight");
  await frame();
  expect(document.activeElement).toBe(tab(el, second));
  expect(tab(el, second)?.getAttribute("aria-selected")).toBe("true");
  expect([...el.querySelectorAll('[role="tab"]')].map((one) => one.getAttribute("tabindex"))).toEqual(
    ids.map((id) => (id === second ? "0" : "-1")),
  );
  const [open] = shown(el);
  expect(shown(el).length).toBe(1);
  expect(open?.getAttribute("aria-labelledby")).toBe(tab(el, second)?.id);
  press("End");
  await frame();
  expect(document.activeElement).toBe(tab(el, ids.at(-1) ?? ""));
  press("ArrowRight");
  await frame();
  expect(document.activeElement).toBe(tab(el, "preview"));
});

test("each view has its own open tab", async () => {
  const second = show(panel.model);
  tab(panel.el, "code")?.click();
  await frame();
  expect(tab(second.el, "preview")?.getAttribute("aria-selected")).toBe("true");
  second.close();
});

test("the code is asked for when its tab opens, and again when the state moves on", async () => {
  const { model, el } = panel;
  expect(model.asked).toEqual([]);
  tab(el, "code")?.click();
  await frame();
  answer(model, "one");
  await frame();
  expect(el.querySelector(".sl-code")?.textContent).toBe("one");
  model.change("state", state({ revision: 1 }));
  await frame();
  expect(model.asked.map((ask) => ask.what)).toEqual([
    { kind: "code", revision: 0, seed: 0 },
    { kind: "code", revision: 1, seed: 0 },
  ]);
  expect(el.querySelector(".sl-code")?.textContent).toBe("one"); // until there is a newer one
  answer(model, "two");
  await frame();
  expect(el.querySelector(".sl-code")?.textContent).toBe("two");
  tab(el, "preview")?.click();
  await frame();
  model.change("state", state({ revision: 2 }));
  await frame();
  expect(model.asked.length).toBe(2); // a tab that is not in sight rests
});

test("an answer that does not come is told in words in the tab", async () => {
  const { model, el } = panel;
  tab(el, "code")?.click();
  await frame();
  const id = model.asked[0]?.id ?? "";
  model.say({ kind: "failure", id, error: { what: "no recipe", hint: "Set one." }, gone: false });
  await frame();
  expect(shown(el)[0]?.querySelector('[role="alert"]')?.textContent).toContain("No recipe. Set one.");
});

test("a form that cannot be written says why", async () => {
  const { model, el } = panel;
  tab(el, "code")?.click();
  await frame();
  answer(model);
  await frame();
  shown(el)[0]?.querySelectorAll<HTMLInputElement>(".sl-segmented input")[1]?.click();
  await frame();
  expect(shown(el)[0]?.querySelector('[role="alert"]')?.textContent).toContain("No folder is known. Say it.");
  const copying = [...el.querySelectorAll("button")].find((b) => b.textContent === "Copy");
  expect(copying?.getAttribute("aria-disabled")).toBe("true");
});

test("code is copied", async () => {
  const { model, el } = panel;
  const write = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  tab(el, "code")?.click();
  await frame();
  answer(model);
  await frame();
  [...el.querySelectorAll("button")].find((b) => b.textContent === "Copy")?.click();
  await frame();
  expect(write).toHaveBeenCalledWith("recipe = 1\n");
  expect(el.querySelector(".sl-code-do")?.textContent).toContain("Copied");
});

test("a cell is inserted only where the host answers", async () => {
  const inserted: unknown[] = [];
  const button = () =>
    [...panel.el.querySelectorAll("button")].find((b) => b.textContent?.includes("Insert"));
  tab(panel.el, "code")?.click();
  await frame();
  answer(panel.model);
  await frame();
  expect(button()).toBeUndefined();
  const host = (event: Event) => {
    event.preventDefault();
    inserted.push((event as CustomEvent).detail.source);
  };
  document.addEventListener(INSERT_CELL, host);
  panel.close();
  panel = show();
  tab(panel.el, "code")?.click();
  await frame();
  answer(panel.model);
  await frame();
  button()?.click();
  document.removeEventListener(INSERT_CELL, host);
  expect(inserted.filter(Boolean)).toEqual(["recipe = 1\n"]);
});

test("ctrl and z undo in the panel, a text field's too, and are kept from the notebook", async () => {
  const { model, el } = panel;
  const box = el.querySelector("textarea") as HTMLTextAreaElement;
  box.focus();
  const unhandled = press("z", { ctrlKey: true });
  expect(unhandled).toBe(false); // prevented
  expect(box.hasAttribute("data-lm-suppress-shortcuts")).toBe(true);
  press("Z", { ctrlKey: true, shiftKey: true });
  press("z", { metaKey: true });
  expect(model.sent.slice(1).map((m) => m.kind)).toEqual(["undo", "redo", "undo"]);
});

test("the buttons say whether there is something to undo", async () => {
  const { model, el } = panel;
  const off = () =>
    [...el.querySelectorAll(".sl-history .sl-step")].map((button) => button.getAttribute("aria-disabled"));
  expect(off()).toEqual(["true", "true"]);
  model.change("state", state({ revision: 1, undoable: true }));
  await frame();
  expect(off()).toEqual(["false", "true"]);
  el.querySelector<HTMLButtonElement>(".sl-step")?.click();
  expect(model.sent.at(-1)).toEqual({ kind: "undo" });
});

test("clamp starts at nothing along the vector, at the direction's own site", async () => {
  const { model, el } = panel;
  el.querySelectorAll<HTMLInputElement>(".sl-row .sl-segmented input")[2]?.click();
  await frame();
  const row = model.runs.at(-1)?.steering[0];
  expect([row?.mode, row?.coefficient, row?.cells]).toEqual(["clamp", 0, [[2, "resid_pre"]]]);
  expect(el.querySelector(".sl-meaning")?.textContent).toBe("= 0.00 × ‖resid‖");
  expect(el.querySelector<HTMLInputElement>(".sl-slider input")?.max).toBe("20"); // 1.5 times 8, made round
});

test("the tokens that a direction acts on are chosen where it acts", async () => {
  const { model, el } = panel;
  el.querySelectorAll<HTMLInputElement>(".sl-tokens input")[2]?.click();
  expect(model.runs.at(-1)?.steering[0]?.tokens).toBe("generated");
});
