import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { SteeringState } from "../src/protocol";
import { pressed, step } from "../src/widget/grid";
import { frame, input, type Shown, say, show, state } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => {
  panel.close();
  vi.unstubAllGlobals();
});

const $ = <T extends HTMLElement>(selector: string) => panel.el.querySelector<T>(selector) as T;
const row = () => panel.model.runs.at(-1)?.steering[0];
const cells = () => row()?.cells.map(([layer, point]) => `${point}[${layer}]`);
const cell = (place: string) => $<HTMLElement>(`[data-place="${place}"]`);

function press(key: string, shiftKey = false): void {
  document.activeElement?.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
}

/** The kernel has answered what was sent, and what waited for that has been sent too. */
async function settled(): Promise<void> {
  panel.model.say(say.done(1));
  await frame();
}

test("the slider sends its number, and says it in words", async () => {
  input($(".sl-slider input"), "1.5");
  expect(row()?.coefficient).toBe(1.5);
  await frame();
  expect($(".sl-slider input").getAttribute("aria-valuetext")).toBe("1.5, 0.38 times the residual norm");
  expect($(".sl-meaning").textContent).toBe("+0.38 × ‖resid‖");
});

test("to move the slider of a row that is off turns it on", async () => {
  $<HTMLInputElement>(".sl-name input").click();
  expect(row()?.enabled).toBe(false);
  input($(".sl-slider input"), "1");
  await settled();
  expect(row()?.enabled).toBe(true);
});

test("a half-typed number is left alone", async () => {
  const field = $<HTMLInputElement>(".sl-number");
  input(field, "");
  input(field, "2.5");
  expect(panel.model.runs.map((run) => run.steering[0]?.coefficient)).toEqual([2.5]);
});

test("a number that is changed from elsewhere takes the place of what was typed", async () => {
  const field = $<HTMLInputElement>(".sl-number");
  field.focus();
  input(field, "2.5");
  await frame();
  const [row] = state().steering as [SteeringState];
  panel.model.change("state", state({ revision: 1, steering: [{ ...row, coefficient: 4 }] }));
  await frame();
  expect(field.value).toBe("4");
  expect(document.activeElement).toBe(field);
});

test("a number beyond the slider widens it", async () => {
  input($(".sl-number"), "30");
  await frame();
  expect($<HTMLInputElement>(".sl-slider input").max).toBe("30");
});

test("the ends of a slider stay while it is held, and follow its number once it is released", async () => {
  input($(".sl-number"), "30");
  await frame();
  const slider = $<HTMLInputElement>(".sl-slider input");
  slider.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await frame();
  for (const to of ["19", "9"]) {
    input(slider, to);
    await frame();
    expect([slider.max, slider.value]).toEqual(["30", to]);
  }
  window.dispatchEvent(new PointerEvent("pointerup"));
  await frame();
  expect(slider.max).toBe("10");
});

test("a number out of its limits is marked until it is within them", async () => {
  const field = $<HTMLInputElement>(".sl-number");
  input(field, "1e9");
  await frame();
  expect(field.getAttribute("aria-invalid")).toBe("true");
  input(field, "2");
  await frame();
  expect(field.getAttribute("aria-invalid")).toBe("false");
});

test("a number beyond its limits is taken by no part of it, and says the limits until it is corrected", async () => {
  const field = $<HTMLInputElement>('[aria-label^="New tokens"]');
  const type = async (text: string) => {
    input(field, text);
    await settled();
  };
  for (const text of ["5", "50", "500"]) await type(text);
  expect(panel.model.runs.at(-1)?.max_new_tokens).toBe(500);
  await type("5000");
  expect(panel.model.runs.at(-1)?.max_new_tokens).toBe(64);
  field.dispatchEvent(new FocusEvent("blur"));
  await frame();
  expect([field.value, field.getAttribute("aria-invalid")]).toEqual(["5000", "true"]);
  const words = () => document.getElementById(field.getAttribute("aria-describedby") ?? "")?.textContent;
  expect(words()).toBe("1 to 4096");
  for (const [revision, max_new_tokens] of [9, 64].entries()) {
    panel.model.change("state", state({ revision: revision + 1, max_new_tokens }));
    await frame();
    expect([field.value, field.getAttribute("aria-invalid")]).toEqual([`${max_new_tokens}`, "false"]);
  }
  await type("400");
  expect([panel.model.runs.at(-1)?.max_new_tokens, words()]).toEqual([400, undefined]);
  field.dispatchEvent(new FocusEvent("blur"));
  await type("");
  field.dispatchEvent(new FocusEvent("blur"));
  await frame();
  expect(field.value, "what is half typed is forgotten").toBe("400");
});

test("a field shows a number beyond its limits that Python set, and the panel goes on", async () => {
  panel.model.change("state", state({ revision: 1, max_new_tokens: 8000, temperature: 12.5 }));
  await frame();
  const [tokens, temperature] = panel.el.querySelectorAll<HTMLInputElement>(".sl-sampling input");
  expect([tokens?.value, temperature?.value]).toEqual(["8000", "12.5"]);
  input($(".sl-slider input"), "1.5");
  expect(panel.model.runs.at(-1)?.max_new_tokens).toBe(8000);
  input(tokens ?? null, "9000"); // of what is typed, only what is sensible is taken
  expect(panel.model.runs.at(-1)?.max_new_tokens).toBe(8000);
});

test("ablation starts whole and at the paper's sites, and addition comes back as it was", async () => {
  input($(".sl-slider input"), "2");
  await settled();
  panel.el.querySelectorAll<HTMLInputElement>(".sl-segmented input")[1]?.click();
  await settled();
  expect([row()?.mode, row()?.coefficient, row()?.cells.length]).toEqual(["ablate", 1, 12]);
  panel.el.querySelectorAll<HTMLInputElement>(".sl-segmented input")[0]?.click();
  await settled();
  expect([row()?.mode, row()?.coefficient, cells()]).toEqual(["add", 2, ["resid_pre[2]"]]);
});

test("sites that a person chose stay when the mode changes", async () => {
  cell("1,0").dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await settled();
  panel.el.querySelectorAll<HTMLInputElement>(".sl-segmented input")[1]?.click();
  await settled();
  expect(cells()).toEqual(["resid_pre[2]", "attn_out[0]"]);
});

test("presets set the sites and show which one is set", async () => {
  const [paper, own, none] = panel.el.querySelectorAll<HTMLButtonElement>(".sl-presets button");
  expect(own?.getAttribute("aria-pressed")).toBe("true");
  paper?.click();
  await settled();
  expect(row()?.cells.length).toBe(12);
  expect(paper?.getAttribute("aria-pressed")).toBe("true");
  none?.click();
  await settled();
  expect(row()?.cells).toEqual([]);
  expect($(".sl-say").textContent).toBe("no site: it does nothing");
});

test("a drag brushes sites with what the first one was given", async () => {
  cell("0,0").dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  for (const place of ["0,1", "0,2", "1,2"]) {
    await frame();
    cell(place).dispatchEvent(new PointerEvent("pointerenter", { buttons: 1 }));
  }
  await settled();
  expect(cells()).toEqual(["resid_pre[0]", "resid_pre[1]", "resid_pre[2]", "attn_out[2]"]);
  cell("0,1").dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await frame();
  cell("0,2").dispatchEvent(new PointerEvent("pointerenter", { buttons: 1 }));
  await settled();
  expect(cells()).toEqual(["resid_pre[0]", "attn_out[2]"]);
});

test("the sites are reached and brushed by keys alone", async () => {
  cell("0,2").focus();
  press("ArrowDown");
  await frame();
  press(" ");
  await frame();
  press("ArrowRight", true);
  await settled();
  expect(cells()).toEqual(["resid_pre[2]", "attn_out[2]", "attn_out[3]"]);
  expect(document.activeElement?.getAttribute("aria-label")).toBe(
    "attn_out[3]: attn_out of block 3 in words",
  );
  press("Home");
  await frame();
  press("ArrowLeft"); // the head of the row
  await frame();
  press(" ");
  await settled();
  expect(cells()?.filter((name) => name.startsWith("attn_out")).length).toBe(4);
});

test("a site says in words what it is when it is pointed at", async () => {
  cell("4,3").dispatchEvent(new PointerEvent("pointerenter"));
  await frame();
  expect($(".sl-say").textContent).toBe("resid_post[3]: resid_post of block 3 in words");
});

test("enter runs the prompt, shift and enter does not", async () => {
  const box = $<HTMLTextAreaElement>("textarea");
  input(box, "How?");
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", shiftKey: true, bubbles: true }));
  expect(panel.model.runs).toEqual([]);
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  expect(panel.model.runs.map((run) => run.prompt)).toEqual(["How?"]);
});

test("an example becomes the prompt and runs", async () => {
  const menu = $<HTMLSelectElement>("select");
  menu.value = "How do I bake bread?";
  menu.dispatchEvent(new Event("change", { bubbles: true }));
  expect(panel.model.runs.map((run) => run.prompt)).toEqual(["How do I bake bread?"]);
});

test("keys that a control needs are kept from the notebook's shortcuts, others are not", () => {
  const slider = $<HTMLInputElement>(".sl-slider input");
  const suppressed = (init: KeyboardEventInit) => {
    slider.dispatchEvent(new KeyboardEvent("keydown", { ...init, bubbles: true }));
    return slider.hasAttribute("data-lm-suppress-shortcuts");
  };
  expect(suppressed({ key: "ArrowRight" })).toBe(true);
  expect(suppressed({ key: "a" })).toBe(true);
  expect(suppressed({ key: "s", ctrlKey: true })).toBe(false);
  expect(suppressed({ key: "Escape" })).toBe(false);
});

test("the selection inside of a field is no business of the notebook's editors", () => {
  const heard: EventTarget[] = [];
  const hear = (event: Event) => heard.push(event.target as EventTarget);
  document.addEventListener("selectionchange", hear);
  const bubbling = () => new Event("selectionchange", { bubbles: true });
  $<HTMLInputElement>(".sl-number").dispatchEvent(bubbling());
  document.dispatchEvent(bubbling());
  document.removeEventListener("selectionchange", hear);
  expect(heard).toEqual([document]);
});

test("in a row up and down are left and right, its ends hold, and keys that do nothing are the host's", () => {
  const keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "Home", "End", "a", "Tab"];
  expect(keys.map((key) => step(key, 1, 4))).toEqual([2, 2, 0, 0, 0, 3, null, null]);
  expect([step("ArrowLeft", 0, 4), step("ArrowDown", 3, 4)]).toEqual([0, 3]);
  const [go, choose] = [vi.fn(), vi.fn()];
  const press = (key: string, chooses = true) => {
    const event = new KeyboardEvent("keydown", { key, cancelable: true });
    pressed(event, step(key, 0, 4), go, chooses ? choose : undefined);
    return event.defaultPrevented;
  };
  expect([press("ArrowRight"), press("Enter"), press(" "), press("Tab"), press("Enter", false)]).toEqual([
    true,
    true,
    true,
    false,
    false,
  ]);
  expect([go.mock.calls, choose.mock.calls.length]).toEqual([[[1]], 2]);
});

test("an arrow on the closed list of examples opens it and runs none", async () => {
  const list = $<HTMLSelectElement>(".sl-examples");
  const picker = vi.fn();
  let open = false;
  list.showPicker = picker;
  vi.spyOn(list, "matches").mockImplementation(() => open);
  vi.stubGlobal("CSS", { supports: () => true });
  const taken = () => {
    const event = new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true, cancelable: true });
    list.dispatchEvent(event);
    return event.defaultPrevented;
  };
  expect(taken()).toBe(true);
  expect(picker).toHaveBeenCalledOnce();
  open = true; // there the arrows walk
  expect(taken()).toBe(false);
  picker.mockImplementation(() => {
    throw new DOMException("in a frame of another origin", "SecurityError");
  });
  open = false;
  expect(taken()).toBe(true);
});

test("the box of the prompt follows its width, and its first layout", async () => {
  let resized = () => {};
  const Watch = class {
    constructor(tell: () => void) {
      resized = tell;
    }
    observe() {}
    disconnect() {}
  };
  panel.close();
  vi.stubGlobal("ResizeObserver", Watch);
  panel = show();
  await frame();
  const box = $<HTMLTextAreaElement>(".sl-prompt textarea");
  Object.defineProperty(box, "scrollHeight", { value: 72 });
  resized();
  await frame();
  expect(box.style.height).toBe("74px");
});
