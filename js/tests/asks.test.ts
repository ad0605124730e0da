import { expect, test } from "vitest";
import type { KernelMessage } from "../src/protocol";
import { Store } from "../src/widget/store";
import { FakeModel, traits } from "./fakes";

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
  expect(model.sent.filter((m) => m.kind === "cancel")).toEqual([{ kind: "cancel", id }]);
  model.say({ kind: "answer", id, answer: ANSWER });
  expect([asked.status.value, asked.answer.value]).toEqual(["cancelled", null]);
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
