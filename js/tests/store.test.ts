import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { PanelState, SteeringState } from "../src/protocol";
import { Pace } from "../src/widget/pace";
import { Store } from "../src/widget/store";
import { FakeModel, say, state, traits } from "./fakes";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("the pace", () => {
  const sent: number[] = [];
  let now = 0;
  let pace: Pace;
  beforeEach(() => {
    sent.length = 0;
    pace = new Pace(() => sent.push(now));
  });
  const move = (value: number) => {
    now = value;
    pace.call();
  };

  test("the first move goes out at once, the last one always", () => {
    move(1);
    expect(sent).toEqual([1]);
    move(2);
    move(3);
    expect(sent).toEqual([1]);
    vi.advanceTimersByTime(1000);
    expect(sent).toEqual([1, 3]);
  });

  test("the next move waits for the first token of the last one, not for the clock", () => {
    move(1);
    move(2);
    vi.advanceTimersByTime(100);
    expect(sent).toEqual([1]);
    pace.landed();
    vi.advanceTimersByTime(1);
    expect(sent).toEqual([1, 2]);
  });

  test("sixty moves in three seconds end in the last one", () => {
    for (let i = 1; i <= 60; i++) {
      move(i);
      vi.advanceTimersByTime(50);
      pace.landed();
    }
    vi.advanceTimersByTime(1000);
    expect(sent.at(-1)).toBe(60);
  });

  test("what the page shows already is told once the page has drawn it, and while more of it comes", () => {
    for (let i = 1; i <= 10; i++) {
      now = i;
      pace.call({ shown: true });
      pace.landed();
      vi.advanceTimersByTime(16);
    }
    expect(sent).toEqual([3, 6, 9]);
    vi.advanceTimersByTime(1000);
    expect(sent).toEqual([3, 6, 9, 10]);
  });

  test("what has to be run does not wait for it", () => {
    now = 1;
    pace.call({ shown: true });
    move(2);
    expect(sent).toEqual([2]);
  });

  test("what waits can be called off", () => {
    move(1);
    move(2);
    pace.cancel();
    vi.advanceTimersByTime(1000);
    expect(sent).toEqual([1]);
  });
});

describe("the store", () => {
  const push = (store: Store, coefficient: number) => store.editRow(0, { coefficient });

  test("any change is sent with the revision it was based on", () => {
    const model = new FakeModel();
    model.values.state = state({ revision: 7 });
    const store = new Store(model.any);
    push(store, 2);
    expect(model.runs[0]?.steering[0]?.coefficient).toBe(2);
    expect(model.runs[0]?.revision).toBe(7);
    expect(model.runs[0]?.origin).not.toBe("");
  });

  test("the echo of an older move does not undo a newer one", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    push(store, 1);
    push(store, 2);
    const first = model.runs[0];
    if (first) model.change("state", { ...first, revision: 1 });
    expect(store.state.value.steering[0]?.coefficient).toBe(2);
    expect(store.state.value.revision).toBe(1);
  });

  const [row] = state().steering as [SteeringState];
  const pushed = (coefficient: number, change: Partial<PanelState> = {}) =>
    state({ steering: [{ ...row, coefficient }], ...change });
  const coefficients = (state: PanelState | undefined) => state?.steering.map((one) => one.coefficient);

  test("a change from Python is taken over, and calls off what was waiting to change the same", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    push(store, 1);
    push(store, 2);
    model.change("state", pushed(9, { prompt: "From Python", revision: 5 }));
    vi.advanceTimersByTime(1000);
    expect(store.state.value).toEqual(pushed(9, { prompt: "From Python", revision: 5 }));
    expect(model.runs.length).toBe(1);
  });

  test("what waits, or was sent too late, is sent again with what was changed elsewhere meanwhile", () => {
    for (const moves of [[1], [1, 2]]) {
      const model = new FakeModel();
      const store = new Store(model.any);
      for (const move of moves) push(store, move);
      const found = { ...row, direction: "found" };
      const [info] = traits().directions;
      if (info) model.change("directions", [info, { ...info, name: "found", fingerprint: "f2" }]);
      model.change("state", state({ steering: [row, found], seed: 7, revision: 5 }));
      const now = store.state.value;
      expect([coefficients(now), now.seed, now.revision]).toEqual([[moves.at(-1), 0], 7, 5]);
      vi.advanceTimersByTime(1000);
      const { length } = model.runs;
      const last = model.runs.at(-1);
      expect(last).toMatchObject({ steering: now.steering, seed: 7, revision: 5 });
      expect([last?.origin, last?.edit]).toEqual([model.runs[0]?.origin, moves.length]);
      if (last) model.change("state", { ...last, revision: 6 });
      model.change("state", state({ revision: 7 }));
      vi.advanceTimersByTime(1000);
      expect([coefficients(store.state.value), model.runs.length], "it was taken").toEqual([[0], length]);
    }
  });

  test("what something in the kernel makes of a change is not changed again", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    push(store, 5);
    push(store, 6);
    model.change("state", pushed(5, { seed: 7, edit: 1, revision: 1 }));
    expect([coefficients(store.state.value), store.state.value.seed], "but what came after").toEqual([
      [6],
      7,
    ]);
    vi.advanceTimersByTime(1000);
    expect(model.runs.length).toBe(2);
    model.change("state", pushed(5, { edit: 2, revision: 2 }));
    vi.advanceTimersByTime(1000);
    expect([coefficients(store.state.value), model.runs.length]).toEqual([[5], 2]);
  });

  test("what the kernel refused is not sent again", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    push(store, 1);
    model.say({ kind: "complaint", error: { what: "no", hint: "" } });
    model.change("state", state({ seed: 7, revision: 5 }));
    vi.advanceTimersByTime(1000);
    expect([coefficients(store.state.value), model.runs.length]).toEqual([[0], 1]);
  });

  test("typing waits for a pause and never sends an empty prompt", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    store.edit({ prompt: "H" }, "typing");
    store.edit({ prompt: "Hi" }, "typing");
    expect(model.runs).toEqual([]);
    vi.advanceTimersByTime(500);
    expect(model.runs.map((run) => run.prompt)).toEqual(["Hi"]);
    store.edit({ prompt: " " }, "typing");
    vi.advanceTimersByTime(1000);
    expect(model.runs.length).toBe(1);
  });

  test("what is being typed stays where the kernel sets something else, and is sent after it", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    store.edit({ prompt: "Hel" }, "typing");
    model.change("state", state({ revision: 5, seed: 7 }));
    expect(store.state.value).toMatchObject({ prompt: "Hel", seed: 7, revision: 5 });
    vi.advanceTimersByTime(1000);
    expect(model.runs).toMatchObject([{ prompt: "Hel", seed: 7, revision: 5 }]);
    store.edit({ prompt: "" }, "typing");
    model.change("state", state({ prompt: "Hel", revision: 6, seed: 8 }));
    expect(store.state.value.prompt, "an emptied one too").toBe("");
    store.edit({ prompt: "Help" }, "typing");
    model.change("state", state({ prompt: "From Python", revision: 7 }));
    expect(store.state.value.prompt).toBe("From Python");
    vi.advanceTimersByTime(1000);
    expect(model.runs.length).toBe(1);
  });

  test("rows that are moved while an undo is under way are moved in what comes of it", () => {
    const [row] = state().steering as [SteeringState];
    const rows = (...numbers: number[]) => numbers.map((coefficient) => ({ ...row, coefficient }));
    const model = new FakeModel({ ...traits(), state: state({ steering: rows(1, 9) }) });
    const store = new Store(model.any);
    store.undo();
    store.editRows((now) => [...now].reverse());
    model.change("state", state({ steering: rows(1, 2), revision: 5 }));
    vi.advanceTimersByTime(1000);
    expect(model.runs.at(-1)?.steering.map(({ coefficient }) => coefficient)).toEqual([2, 1]);
  });

  test("a stop comes after what was waiting, so that panel and kernel have the same set", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    push(store, 1);
    push(store, 2);
    store.stop();
    vi.advanceTimersByTime(1000);
    expect(model.runs.at(-1)?.steering[0]?.coefficient).toBe(2);
    expect(model.sent.slice(-2).map((m) => m.kind)).toEqual(["run", "stop"]);
  });

  test("a kernel that does not answer is waited for, in words, until it does", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    vi.advanceTimersByTime(4000);
    expect(store.connection.value).toBe("waiting");
    model.say(say.start(1));
    expect(store.connection.value).toBe("live");
  });

  test("a closed connection is noticed when something is sent", () => {
    const model = new FakeModel();
    const store = new Store(model.any);
    model.closed = true;
    push(store, 1);
    expect(store.connection.value).toBe("gone");
  });

  describe("undo", () => {
    const gestures = (model: FakeModel) =>
      model.sent.filter((m) => m.kind === "run").map((m) => (m.kind === "run" ? m.gesture : ""));

    test("the moves of a drag are one gesture, the next drag is another", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      for (const values of [
        [1, 2],
        [3, 4],
      ]) {
        store.hold(true);
        for (const value of values) {
          push(store, value);
          vi.advanceTimersByTime(2000);
        }
        store.hold(false);
      }
      const [a, b, c, d] = gestures(model);
      expect([a === b, b === c, c === d]).toEqual([true, false, true]);
    });

    test("quick changes of one thing are one gesture, of two things two, and none is lost", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      push(store, 1);
      push(store, 2); // waits
      store.edit({ temperature: 1 }); // sends it before itself
      vi.advanceTimersByTime(2000);
      store.edit({ temperature: 2 });
      vi.advanceTimersByTime(2000);
      const [a, b, c, d] = gestures(model);
      expect([a === b, b === c, c === d]).toEqual([true, false, false]);
      expect(model.runs[1]?.steering[0]?.coefficient).toBe(2);
      expect(model.runs[1]?.temperature).toBe(0);
    });

    test("what waits goes out before an undo", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      push(store, 1);
      push(store, 2);
      store.undo();
      expect(model.sent.slice(-2).map((m) => m.kind)).toEqual(["run", "undo"]);
      store.redo();
      expect(model.sent.at(-1)).toEqual({ kind: "redo" });
    });

    test("what is changed before an undo is answered is changed in what comes of it", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      push(store, 1);
      vi.advanceTimersByTime(1000);
      store.undo();
      store.edit({ control: false });
      store.editRow(0, { enabled: false });
      vi.advanceTimersByTime(1000);
      expect(model.sent.at(-1)).toEqual({ kind: "undo" });
      expect([store.state.value.control, store.state.value.steering[0]?.enabled]).toEqual([false, false]);
      const before = state({ revision: 9, control: true });
      model.change("state", before);
      vi.advanceTimersByTime(1000);
      const row = { ...before.steering[0], enabled: false };
      expect(store.state.value).toMatchObject({ control: false, steering: [row], revision: 9 });
      expect(model.runs.at(-1)).toMatchObject({ control: false, steering: [row] });
    });

    test("undo takes back first what the kernel was not told yet, and a kernel that is gone holds nothing up", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      push(store, 1);
      store.undo();
      store.edit({ control: false });
      store.undo();
      expect(model.sent.filter((m) => m.kind === "undo").length).toBe(1);
      model.change("state", state({ revision: 9, control: true }));
      vi.advanceTimersByTime(1000);
      expect(store.state.value.control).toBe(true);
    });

    test("a prompt that was emptied comes back, and nothing else is taken back", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      store.edit({ prompt: "Sent" }, "typing");
      vi.advanceTimersByTime(1000);
      push(store, 1);
      vi.advanceTimersByTime(1000);
      store.edit({ prompt: "Sen" }, "typing");
      store.edit({ prompt: "" }, "typing");
      const sent = model.sent.length;
      expect(store.emptied).toBe(true);
      store.undo();
      expect([store.state.value.prompt, model.sent.length]).toEqual(["Sent", sent]);
      expect(store.emptied).toBe(false);
      store.undo();
      expect(model.sent.at(-1)).toEqual({ kind: "undo" });
    });

    test("an empty prompt that was sent, or came from elsewhere, is taken back by the kernel", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      store.edit({ prompt: "" }, "typing");
      push(store, 1); // the prompt goes with it
      store.undo();
      expect(model.sent.at(-1)).toEqual({ kind: "undo" });
      model.change("state", state({ prompt: "From Python", revision: 5 }));
      store.edit({ prompt: "" }, "typing");
      store.undo();
      expect(store.state.value.prompt).toBe("From Python");
      model.change("state", state({ prompt: "", revision: 6 }));
      store.undo();
      expect(model.sent.at(-1)).toEqual({ kind: "undo" });
    });

    test("whether there is something to undo is known to the view that made the change", () => {
      const model = new FakeModel();
      const store = new Store(model.any);
      push(store, 1);
      const sent = model.runs[0];
      if (sent) model.change("state", { ...sent, revision: 1, undoable: true, conflicts: ["told"] });
      expect([store.state.value.undoable, store.state.value.conflicts]).toEqual([true, ["told"]]);
    });
  });
});
