import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { SnapshotInfo } from "../src/protocol";
import { frame, input, type Shown, show } from "./fakes";

const kept = (name: string, fingerprint = name): SnapshotInfo => ({
  name,
  prompt: "Hello",
  steps: ["add 'refusal' +1 at resid_pre[2]"],
  max_new_tokens: 64,
  temperature: 0,
  seed: 0,
  fingerprint,
});

let panel: Shown;
beforeEach(async () => {
  panel = show();
  panel.el.querySelector<HTMLElement>('[data-tab="snapshots"]')?.click();
  await frame();
});
afterEach(() => panel.close());

const asked = (kind: string) => panel.model.asked.filter((ask) => ask.what.kind === kind);
const button = (words: string) =>
  [...panel.el.querySelectorAll<HTMLElement>("button")].find(
    (one) => one.textContent === words || one.getAttribute("aria-label") === words,
  );
const submit = (field: string) =>
  panel.el
    .querySelector(field)
    ?.closest("form")
    ?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));

test("what is set is kept under a name that nobody has to type", async () => {
  submit(".sl-keep-name");
  expect(asked("snapshot")[0]?.what).toMatchObject({ do: "keep", name: "snapshot 1" });
  input(panel.el.querySelector(".sl-keep-name"), "push");
  await frame();
  submit(".sl-keep-name");
  expect(asked("snapshot")[1]?.what).toMatchObject({ do: "keep", name: "push" });
});

test("a change that is still on its way is sent before the snapshot is taken", async () => {
  input(panel.el.querySelector("textarea"), "New prompt");
  submit(".sl-keep-name");
  const kinds = panel.model.sent.map((message) => message.kind);
  expect(kinds.slice(-2)).toEqual(["run", "ask"]);
});

test("what was deleted or replaced can be brought back", async () => {
  panel.model.change("snapshots", [kept("a")]);
  await frame();
  const answer = async (lost: boolean) => {
    const name = "a";
    panel.model.say({ kind: "answer", id: asked("snapshot").at(-1)?.id ?? "", answer: { name, lost } });
    await frame();
  };
  button("Delete a")?.click();
  await answer(true);
  expect(panel.el.querySelector('[aria-label="Kept"]')?.textContent).toContain("a was deleted.");
  button("Bring it back")?.click();
  expect(asked("snapshot").at(-1)?.what).toMatchObject({ do: "bring back", name: "a" });
  await answer(true);
  expect(button("Bring it back")).toBeUndefined();
  input(panel.el.querySelector(".sl-keep-name"), "a");
  await frame();
  submit(".sl-keep-name");
  await answer(true);
  expect(panel.el.querySelector('[aria-label="Kept"]')?.textContent).toContain("a was replaced.");
  submit(".sl-keep-name");
  await answer(false);
  expect(button("Bring it back")).toBeUndefined();
});

test("two that are ticked are compared, and again when one of them is replaced", async () => {
  panel.model.change("snapshots", [kept("a"), kept("b"), kept("c")]);
  await frame();
  const tick = async (name: string) => {
    panel.el.querySelector<HTMLInputElement>(`[aria-label="Compare ${name}"]`)?.click();
    await frame();
  };
  await tick("c");
  expect(asked("compare")).toEqual([]);
  await tick("a");
  const first = asked("compare").at(-1);
  expect(first?.what).toEqual({
    kind: "compare",
    names: ["a", "c"],
    fingerprints: ["a", "c"],
    epoch: 0,
  });
  panel.model.say({
    kind: "answer",
    id: first?.id ?? "",
    answer: {
      texts: ["a", "c"].map((name) => ({
        name,
        text: `<b>${name}</b>`,
        finish: "stop",
        verdict: { refuses: false, phrase: null },
        applied: null,
      })),
    },
  });
  await frame();
  expect(
    [...panel.el.querySelectorAll('[aria-label="Compared"] .sl-text')].map((t) => t.textContent),
  ).toEqual(["<b>a</b>", "<b>c</b>"]);
  const verdict = panel.el.querySelector<HTMLElement>('[aria-label="Compared"] .sl-verdict');
  verdict?.click();
  await frame();
  expect(verdict?.getAttribute("aria-expanded")).toBe("true");
  expect(panel.el.querySelector('[aria-label="Compared"] .sl-rule')?.textContent).toContain("i cannot");
  panel.model.change("snapshots", [kept("a", "other"), kept("c")]);
  await frame();
  expect(asked("compare").at(-1)?.what).toMatchObject({ fingerprints: ["other", "c"] });
});

test("one is restored and deleted by its own buttons", async () => {
  panel.model.change("snapshots", [kept("a")]);
  await frame();
  button("Restore a")?.click();
  button("Delete a")?.click();
  expect(asked("snapshot").map((ask) => ask.what)).toMatchObject([
    { do: "restore", name: "a" },
    { do: "delete", name: "a" },
  ]);
});

test("a shared text is copied, and one that is pasted is opened", async () => {
  const write = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  button("Share what is set")?.click();
  panel.model.say({ kind: "answer", id: asked("share")[0]?.id ?? "", answer: { text: "steerlab1-abc" } });
  await frame();
  expect(write).toHaveBeenCalledWith("steerlab1-abc");
  expect(panel.el.querySelector<HTMLTextAreaElement>(".sl-shared")?.value).toBe("steerlab1-abc");
  input(panel.el.querySelector(".sl-open-text"), "steerlab1-xyz");
  await frame();
  submit(".sl-open-text");
  const opening = asked("open-shared")[0];
  expect(opening?.what).toEqual({ kind: "open-shared", text: "steerlab1-xyz" });
  panel.model.say({ kind: "answer", id: opening?.id ?? "", answer: { warning: "the answers may differ" } });
  await frame();
  expect(panel.el.querySelector('[aria-label="Share"]')?.textContent).toContain("The answers may differ.");
});
