import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { DirectionInfo, LoadAnswer, SteeringState } from "../src/protocol";
import { base64, contents, MOST_MB, save } from "../src/widget/bytes";
import { FakeModel, frame, input, type Shown, show, state, traits } from "./fakes";

const MINE: DirectionInfo = {
  name: "mine",
  layer: 1,
  point: "resid_post",
  norm: 1,
  residual_norm: null,
  fingerprint: "f2",
  description: "",
};
const [REFUSAL] = state().steering as [SteeringState];
const OTHER: SteeringState = { ...REFUSAL, direction: "mine", coefficient: 1, cells: [[1, "resid_post"]] };

let panel: Shown;
beforeEach(() => {
  const given = traits();
  const two = { ...given, directions: [...given.directions, MINE] };
  panel = show(new FakeModel({ ...two, state: state({ steering: [REFUSAL, OTHER] }) }));
});
afterEach(() => panel.close());

const button = (words: string) =>
  [...panel.el.querySelectorAll<HTMLElement>("button")].find(
    (one) => one.textContent === words || one.getAttribute("aria-label")?.startsWith(words),
  );
const press = (key: string) =>
  document.activeElement?.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }),
  );
const names = () => panel.model.runs.at(-1)?.steering.map((row) => row.direction);

test("two rows of a direction are told apart by ear, and the one in hand is the current one", async () => {
  panel.model.change(
    "state",
    state({ steering: [REFUSAL, OTHER, { ...REFUSAL, mode: "ablate" }], revision: 1 }),
  );
  await frame();
  const groups = [...panel.el.querySelectorAll(".sl-row")];
  const rows = ["refusal, row 1 of 3", "mine", "refusal, row 3 of 3"];
  expect(groups.map((row) => row.getAttribute("aria-label"))).toEqual(rows);
  const boxes = [...panel.el.querySelectorAll('.sl-row [type="checkbox"]')];
  expect(boxes.map((box) => box.getAttribute("aria-label"))).toEqual(rows);
  groups[2]?.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await frame();
  expect(groups.map((row) => row.getAttribute("aria-current"))).toEqual([null, null, "true"]);
  expect(panel.el.querySelector('[aria-label="Where refusal, row 3 of 3 acts"]')).not.toBeNull();
  expect(panel.el.querySelector('.sl-slider [aria-label="Strength of refusal, row 3 of 3"]')).not.toBeNull();
});

test("the raw number behind a slider is said of it", () => {
  const slider = panel.el.querySelector(".sl-row:nth-child(2) .sl-slider input");
  const raw = document.getElementById(slider?.getAttribute("aria-describedby") ?? "");
  expect(raw?.textContent).toBe("1 × |v| 1.000");
});

async function pick(row: string, item: string): Promise<void> {
  button(`More for ${row}`)?.click();
  await frame();
  button(item)?.click();
  await frame();
}

test("the arrows of the handle move a row, and the focus goes with it", async () => {
  button("Move refusal")?.focus();
  press("ArrowDown");
  await frame();
  expect(names()).toEqual(["mine", "refusal"]);
  expect(document.activeElement?.getAttribute("aria-label")).toContain("Move refusal");
  press("ArrowDown"); // it is the last: nothing more happens
  expect(panel.model.runs.length).toBe(1);
});

test("a drag of a row ends with its pointer, also where nobody tells of the release", async () => {
  const all = [...panel.el.querySelectorAll<HTMLElement>(".sl-row")];
  for (const [i, row] of all.entries())
    row.getBoundingClientRect = () => ({ top: 40 * i, bottom: 40 * (i + 1) }) as DOMRect;
  const press = () =>
    button("Move refusal")?.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, button: 0 }));
  const move = (clientY: number, buttons: number) =>
    window.dispatchEvent(new PointerEvent("pointermove", { clientY, buttons }));
  press();
  window.dispatchEvent(new PointerEvent("pointercancel"));
  move(60, 1);
  expect(names()).toBeUndefined();
  press();
  move(60, 0);
  move(60, 1);
  expect(names()).toBeUndefined();
  press();
  move(60, 1);
  await frame();
  expect(names()).toEqual(["mine", "refusal"]);
});

test("a key of the handle that comes before the rows are drawn is the same row's", async () => {
  button("Move refusal")?.focus();
  press("ArrowDown");
  press("ArrowUp");
  await vi.waitFor(() => expect(panel.model.runs.length).toBe(2));
  expect(names()).toEqual(["refusal", "mine"]);
  expect(document.activeElement?.getAttribute("aria-label")).toContain("Move refusal");
});

test("Tab goes through rows without choosing them, and any other key in a row chooses it", async () => {
  const where = () => panel.el.querySelector(".sl-fold .sl-of")?.textContent;
  const slider = panel.el.querySelectorAll<HTMLElement>(".sl-slider input")[1];
  slider?.focus();
  press("Tab");
  await frame();
  expect(where()).toBe("refusal");
  press("Enter");
  await frame();
  expect(where()).toBe("mine");
});

test("the keys stay in the panel when what has the focus goes", async () => {
  const focused = () => document.activeElement?.getAttribute("aria-label");
  button("More for mine")?.focus();
  panel.model.change("state", state({ steering: [REFUSAL], revision: 1 }));
  await vi.waitFor(() => expect(focused()).not.toContain("More for"));
  expect(focused()).toBe("Directions");
  // but whoever left it is left alone
  button("More for refusal")?.focus();
  button("More for refusal")?.blur();
  await frame();
  panel.model.change("state", state({ steering: [], revision: 2 }));
  await frame();
  expect(button("More for refusal")).toBeUndefined();
  expect(document.activeElement).toBe(document.body);
});

test("a menu is walked with the arrows and gives the focus back", async () => {
  const more = button("More for mine");
  more?.click();
  await frame();
  expect(document.activeElement?.textContent).toBe("Duplicate");
  press("ArrowUp");
  expect(document.activeElement?.textContent).toBe("Remove");
  press("Escape");
  await frame();
  expect(document.activeElement).toBe(more);
  expect(more?.getAttribute("aria-expanded")).toBe("false");
});

test("a row is removed, and its direction can be added again", async () => {
  await pick("refusal", "Remove");
  expect(names()).toEqual(["mine"]);
  button("Add a direction")?.click();
  await frame();
  button("refusal")?.click();
  await vi.waitFor(() => expect(names()).toEqual(["mine", "refusal"]));
  expect(panel.model.runs.at(-1)?.steering[1]).toEqual(REFUSAL);
});

test("a second row of a direction does nothing before it is ticked", async () => {
  await pick("mine", "Duplicate");
  expect(panel.model.runs.at(-1)?.steering.slice(1)).toEqual([OTHER, { ...OTHER, enabled: false }]);
});

test("a direction is renamed in its place", async () => {
  await pick("mine", "Rename…");
  const field = document.activeElement as HTMLInputElement;
  expect(field.value).toBe("mine");
  field.value = "happy";
  press("Enter");
  expect(panel.model.asked.at(-1)?.what).toEqual({ kind: "rename", direction: "mine", name: "happy" });
  await pick("refusal", "Rename…");
  press("Escape");
  expect(panel.model.asked.length).toBe(1);
});

test("a name that is refused is told beside its row, until something else is done in it", async () => {
  const refused = () => [...panel.el.querySelectorAll('.sl-row [role="alert"]')];
  const rename = async () => {
    await pick("mine", "Rename…");
    const field = document.activeElement as HTMLInputElement;
    field.value = "refusal";
    press("Enter");
    const error = { what: "there is a direction 'refusal' already", hint: "Choose another name." };
    panel.model.say({ kind: "failure", id: panel.model.asked.at(-1)?.id ?? "", error, gone: false });
    await frame();
    expect(refused().map((one) => one.closest(".sl-row")?.getAttribute("aria-label"))).toEqual(["mine"]);
  };
  await rename();
  await pick("mine", "Rename…");
  expect(refused()).toEqual([]);
  press("Escape");
  await rename();
  await pick("mine", "Save as GGUF control vector");
  expect(refused(), "the newest thing done is the one that is told of").toEqual([]);
  await rename();
  await pick("refusal", "Remove");
  expect(names()).toEqual(["mine"]);
  await frame();
  expect(refused(), "the row in its place is another direction's").toEqual([]);
});

test("a name is typed at once, and whoever goes on elsewhere is left there", async () => {
  button("More for mine")?.click();
  await frame();
  button("Rename…")?.click();
  await Promise.resolve();
  const field = document.activeElement as HTMLInputElement;
  expect(field.value).toBe("mine");
  const prompt = panel.el.querySelector("textarea");
  prompt?.focus();
  await frame();
  expect(field.isConnected).toBe(false);
  expect(document.activeElement).toBe(prompt);
});

const file = (name: string, ...bytes: number[]) => new File([new Uint8Array(bytes)], name);

async function choose(...files: File[]): Promise<void> {
  const field = panel.el.querySelector<HTMLInputElement>('input[type="file"]') as HTMLInputElement;
  Object.defineProperty(field, "files", { value: files, configurable: true });
  field.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
}

function loaded(answer: Partial<LoadAnswer>): void {
  const id = panel.model.asked.at(-1)?.id ?? "";
  panel.model.say({
    kind: "answer",
    id,
    answer: { direction: "", steps: null, question: null, ...answer },
  });
}

test("what a file leaves open is asked in fields, and the answers go with the file", async () => {
  await choose(file("v.pt", 1, 2, 255));
  const files = [{ name: "v.pt", data: "AQL/" }];
  const none = { site: null, point: null, layer: null, position: null, feature: null };
  const nothing = { points: [], layers: [], positions: [], features: 0 };
  expect(panel.model.asked.at(-1)?.what).toEqual({ kind: "load", files, ...none });
  loaded({ question: { ...nothing, asks: "site", what: "v.pt does not say" } });
  await frame();
  const form = panel.el.querySelector<HTMLFormElement>(".sl-open") as HTMLFormElement;
  expect(form.textContent).toContain("v.pt does not say.");
  const [layer, point] = [...form.querySelectorAll("select")] as [HTMLSelectElement, HTMLSelectElement];
  layer.value = "3";
  layer.dispatchEvent(new Event("change", { bubbles: true }));
  point.value = "resid_post";
  point.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  form.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  expect(panel.model.asked.at(-1)?.what).toEqual({ kind: "load", files, ...none, site: [3, "resid_post"] });
  loaded({ question: { ...nothing, asks: "position", what: "several", positions: [-2, -1] } });
  await frame();
  const where = panel.el.querySelector(".sl-open select") as HTMLSelectElement;
  where.value = "-2";
  where.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  panel.el.querySelector(".sl-open")?.dispatchEvent(new Event("submit", { bubbles: true }));
  loaded({ question: { ...nothing, asks: "feature", what: "many", features: 9 } });
  await frame();
  input(panel.el.querySelector(".sl-open .sl-number"), "4");
  await frame();
  panel.el.querySelector(".sl-open")?.dispatchEvent(new Event("submit", { bubbles: true }));
  expect(panel.model.asked.at(-1)?.what).toEqual({
    kind: "load",
    files,
    ...none,
    site: [3, "resid_post"],
    position: -2,
    feature: 4,
  });
  loaded({ direction: "v" });
  await frame();
  expect(panel.el.querySelector(".sl-open")).toBe(null);
  expect(panel.el.querySelector(".sl-said")?.textContent).toBe("v was loaded");
});

test("a file too large for a message is refused with the way in a cell", async () => {
  const big = new File([new Uint8Array(MOST_MB * 1e6 + 1e5)], "big.gguf");
  await choose(big);
  expect(panel.model.asked).toEqual([]);
  expect(panel.el.querySelector('[role="alert"]')?.textContent).toContain("sl.formats.load(path)");
  expect(await contents([file("a", 7)])).toEqual([{ name: "a", data: "Bw==" }]);
});

test("bytes survive base64 in any number", () => {
  const bytes = Uint8Array.from({ length: 100_001 }, (_, i) => i % 256);
  expect(Uint8Array.from(atob(base64(bytes)), (c) => c.charCodeAt(0))).toEqual(bytes);
});

test("a vector is saved by a link to a blob under its own name", async () => {
  const made: Blob[] = [];
  const names: string[] = [];
  vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
    made.push(blob as Blob);
    return "blob:x";
  });
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    names.push(this.download);
  });
  await pick("mine", "Save as GGUF control vector");
  expect(panel.model.asked.at(-1)?.what).toMatchObject({
    kind: "export",
    form: "gguf",
    direction: "mine",
    fingerprint: "f2",
  });
  const id = panel.model.asked.at(-1)?.id ?? "";
  panel.model.say({ kind: "answer", id, answer: { files: [{ name: "mine.gguf", data: "AQL/" }] } });
  expect(names).toEqual(["mine.gguf"]);
  expect(new Uint8Array(await (made[0] as Blob).arrayBuffer())).toEqual(new Uint8Array([1, 2, 255]));
  save([]);
  vi.restoreAllMocks();
});
