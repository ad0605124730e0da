import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Job, ListedJob } from "../src/protocol";
import { ago, staged } from "../src/widget/Jobs";
import { frame, type Shown, show, traits } from "./fakes";

const job = (change: Partial<ListedJob> = {}): ListedJob => ({
  id: "0123456789-abcdef",
  stage: "queued",
  position: 2,
  seconds: 65,
  rows: 3,
  left: true,
  over: false,
  code: "lab.fetch('0123456789-abcdef')",
  ...change,
});

let panel: Shown;
beforeEach(async () => {
  panel = show();
  panel.model.change("info", { ...traits().info, backend: "ndif", device: "http://127.0.0.1:5001" });
  await frame();
});
afterEach(() => panel.close());

const opener = () => panel.el.querySelector<HTMLElement>(".sl-jobs-open");
const asked = (kind: string) => panel.model.asked.filter((ask) => ask.what.kind === kind);
const jobs = () => [...panel.el.querySelectorAll<HTMLElement>(".sl-job")];
const answer = async (...listed: ListedJob[]) => {
  panel.model.say({ kind: "answer", id: asked("jobs").at(-1)?.id ?? "", answer: { jobs: listed, more: 0 } });
  await frame();
};
const open = async () => {
  opener()?.click();
  await frame();
};

test("a model in this kernel has no list of jobs", async () => {
  panel.model.change("info", traits().info);
  await frame();
  expect(opener()).toBeNull();
});

test("nothing is asked before the list is opened, and it is asked again while it is open", async () => {
  expect(asked("jobs")).toEqual([]);
  await open();
  const first = asked("jobs").length;
  expect(first).toBeGreaterThan(0);
  await answer(job());
  await vi.waitFor(() => expect(asked("jobs").length).toBe(first + 1), 6000);
  await answer(job());
  await open(); // a second click closes it
  await new Promise((done) => setTimeout(done, 3000));
  expect(asked("jobs").length).toBe(first + 1);
}, 15_000);

test("a job says where it is, how old it is and how many rows it has", async () => {
  await open();
  await answer(job(), job({ id: "b", stage: "completed", position: null, rows: 1, over: true }));
  expect(jobs().map((one) => one.textContent)).toEqual([
    "in the queue, number 201234567 3 rows, 1 min agoCopy codeCancel",
    "doneb 1 row, 1 min agoCopy code",
  ]);
});

test("a click cancels a job, and why it could not be is said", async () => {
  await open();
  await answer(job());
  panel.el.querySelector<HTMLElement>('[aria-label="Cancel job 01234567"]')?.click();
  const ask = asked("end-job").at(-1);
  expect(ask?.what).toEqual({ kind: "end-job", id: "0123456789-abcdef" });
  const error = { what: "the job goes on", hint: "Leave it." };
  panel.model.say({ kind: "failure", id: ask?.id ?? "", error: { ...error }, gone: false });
  await frame();
  expect(panel.el.querySelector(".sl-jobs-list")?.textContent).toContain("The job goes on. Leave it.");
});

test("Escape closes the list and gives the focus back", async () => {
  await open();
  opener()?.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await frame();
  expect(opener()?.getAttribute("aria-expanded")).toBe("false");
  expect(document.activeElement).toBe(opener());
});

test("times and stages in words", () => {
  expect([3.7, 65, 7300, 200000].map(ago)).toEqual(["3 s ago", "1 min ago", "2 h ago", "2 d ago"]);
  expect(staged({ stage: "dancing", position: null })).toBe("dancing");
});

test("the header says how long a job has taken, and how long loading its model took before", async () => {
  const waited = () => panel.el.querySelector(".sl-waited")?.textContent;
  const say = async (change: Partial<Job>) => {
    panel.model.say({ kind: "job", stage: "deploying", position: null, seconds: 0, usual: null, ...change });
    await frame();
  };
  await say({});
  expect(waited()).toBeUndefined(); // a job that is quick shows no number
  await say({ seconds: 3 });
  expect(waited()).toBe("3 s");
  await say({ seconds: 4, usual: 14 });
  expect(waited()).toBe("4 of ~14 s");
  expect(opener()?.querySelector(".sl-jobs-word")?.textContent).toBe("loading the model");
  await say({ stage: "" });
  expect(waited()).toBeUndefined();
});
