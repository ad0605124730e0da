import { afterEach, expect, test, vi } from "vitest";
import { type Painter, paintNever, paintSoon } from "../src/widget/turns";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Painters that note what they do, and frames that come when they are told to. */
function stage(cost: () => number) {
  let now = 1000;
  let next: FrameRequestCallback[] = [];
  const seen: string[] = [];
  vi.spyOn(performance, "now").mockImplementation(() => now);
  vi.stubGlobal("requestAnimationFrame", (callback: FrameRequestCallback) => next.push(callback));
  const painters = ["a", "b", "c"].map<Painter>((name) => ({
    before: () => void seen.push(`before ${name}`),
    change: () => {
      seen.push(`change ${name}`);
      now += cost();
    },
    after: () => void seen.push(`after ${name}`),
  }));
  const frame = (pause = 16) => {
    const due = next;
    next = [];
    now += pause;
    for (const callback of due) callback(now);
    return seen.splice(0);
  };
  return { painters, frame, ask: () => painters.forEach(paintSoon) };
}

test("all are asked, then all change, then all follow: the page is laid out once", () => {
  const { painters, frame, ask } = stage(() => 1);
  ask();
  paintSoon(painters[0] as Painter);
  paintNever(painters[1] as Painter);
  expect(frame()).toEqual(["before a", "before c", "change a", "change c", "after a", "after c"]);
  expect(frame()).toEqual([]);
});

test("after a frame that took too long the next one has fewer, until one that was quick, or a rest", () => {
  let cost = 5;
  const { frame: all, ask } = stage(() => cost);
  const frame = (pause?: number) => all(pause).filter((what) => what.startsWith("change"));
  frame(1000);
  ask();
  expect(frame()).toHaveLength(3);
  ask();
  expect(frame()).toHaveLength(2);
  ask(); // c waits, and comes first
  expect(frame()).toEqual(["change c"]);
  expect(frame()).toEqual(["change a", "change b"]);
  cost = 1;
  ask();
  expect(frame()).toHaveLength(1);
  expect(frame()).toHaveLength(2);
  ask();
  expect(frame()).toHaveLength(3);
  cost = 50;
  ask();
  frame();
  ask();
  expect(frame(1000), "after a rest").toHaveLength(3);
});
