import { expect, test } from "vitest";
import type { KernelMessage, Question } from "../src/protocol";
import { Store } from "../src/widget/store";
import { FakeModel, frame, show, traits } from "./fakes";

const ANSWER = {
  forms: [{ name: "JSON", title: "t", language: "json" as const, source: "{}", missing: null }],
};

function asking() {
  const model = new FakeModel();
  const store = new Store(model.any);
  const asked = store.ask({ kind: "code", revision: 1, seed: 0 });
  return { model, store, asked, id: asked.id };
}

test("a question is followed through its progress to its answer", () => {
  const { model, asked, id } = asking();
  expect(model.asked).toEqual([
    { kind: "ask", id, what: { kind: "code", revision: 1, seed: 0 }, join: false },
  ]);
  model.say({ kind: "progress", id, done: 1, total: 4, text: "writing" });
  expect([asked.status.value, asked.progress.value?.done]).toEqual(["going", 1]);
  model.say({ kind: "part", id, part: "a" } as unknown as KernelMessage);
  model.say({ kind: "part", id, part: "b" } as unknown as KernelMessage);
  expect(asked.parts.value).toEqual(["a", "b"]);
  model.say({ kind: "answer", id, answer: ANSWER });
  expect([asked.status.value, asked.answer.value]).toEqual(["answered", ANSWER]);
});

test("the answers to another page are not ours", () => {
  const { model, asked, id } = asking();
  model.say({ kind: "answer", id: `${id}0`, answer: ANSWER });
  expect(asked.status.value).toBe("going");
});

test("a question that is called off tells the kernel once, and takes nothing any more", () => {
  const { model, asked, id } = asking();
  asked.cancel();
  asked.cancel();
  expect(model.sent.filter((m) => m.kind === "cancel")).toEqual([{ kind: "cancel", id, everyone: true }]);
  model.say({ kind: "answer", id, answer: ANSWER });
  expect([asked.status.value, asked.answer.value]).toEqual(["cancelled", null]);
});

test("who leaves a question leaves it to others", () => {
  const { model, asked, id } = asking();
  asked.leave();
  asked.cancel();
  expect(model.sent.filter((m) => m.kind === "cancel")).toEqual([{ kind: "cancel", id, everyone: false }]);
  expect(asked.status.value).toBe("cancelled");
});

test("a view that is closed leaves what it asked to the others", async () => {
  const panel = show();
  const cancels = () => panel.model.sent.filter((m) => m.kind === "cancel").map((m) => m.everyone);
  const other = panel.again();
  const tab = () => other.el.querySelector<HTMLElement>('[data-tab="code"]');
  tab()?.click();
  await frame();
  expect(panel.model.asked.at(-1)?.what.kind).toBe("code");
  other.close();
  await frame();
  expect(cancels()).toContain(false);
  expect(cancels()).not.toContain(true);
  panel.close();
});

test("the parts of a map are kept as one", () => {
  const store = new Store(new FakeModel().any);
  const asked = store.ask({ kind: "sweep" } as Question & { kind: "sweep" });
  const cell = (layer: number, n: number) => ({
    layer,
    coefficient: 1,
    control: false,
    stats: { kl: { value: n, low: null, high: null, n } },
  });
  for (const cells of [[cell(0, 1), cell(1, 1)], [cell(1, 2)], [cell(2, 1)]])
    asked.take({ kind: "part", id: asked.id, part: { cells, direction: "f" } });
  expect(asked.parts.value).toEqual([{ cells: [cell(0, 1), cell(1, 2), cell(2, 1)], direction: "f" }]);
});

test("a failure is told in words", () => {
  const { model, asked, id } = asking();
  model.say({ kind: "failure", id, error: { what: "too few prompts", hint: "Give more." }, gone: false });
  expect([asked.status.value, asked.error.value?.what]).toEqual(["failed", "too few prompts"]);
});

test("no question waits for a kernel that is gone", () => {
  const { store, asked } = asking();
  store.connected(false);
  expect([asked.status.value, asked.error.value?.what]).toEqual(["failed", "the kernel is gone"]);
});

test("a page that comes late knows what is being answered", () => {
  const { model, store } = asking();
  const { state, result } = traits();
  const what = { kind: "code" as const, revision: 3, seed: 0 };
  const asking3 = [{ kind: "ask" as const, id: "elsewhere", what, join: false }];
  model.say({ kind: "snapshot", run: 0, seq: 0, pending: [], state, result, asking: asking3 });
  expect(store.questions.known.value).toEqual([what]);
});
