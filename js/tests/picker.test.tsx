import { afterEach, beforeEach, expect, test } from "vitest";
import { spelled, visible } from "../src/widget/template";
import { FakeModel, frame, type Shown, say, show, state } from "./fakes";

let panel: Shown;
beforeEach(async () => {
  panel = show();
  panel.model.say(say.start(1));
  panel.model.say({ kind: "prompt", run: 1, tokens: ["<user>", "Hel", "lo", " ", "\n", "<assistant>"] });
  await frame();
});
afterEach(() => panel.close());

const scope = (name: string) =>
  [...panel.el.querySelectorAll<HTMLInputElement>(".sl-tokens input")].find(
    (input) => input.nextElementSibling?.textContent === name,
  );
const options = () => [...panel.el.querySelectorAll<HTMLElement>('.sl-pick [role="option"]')];
const chosen = () => {
  panel.model.say(say.done(1)); // what was sent has been answered, so that what waits is sent
  return panel.model.runs.at(-1)?.steering[0]?.tokens;
};
const press = (key: string, init: KeyboardEventInit = {}) =>
  document.activeElement?.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init }),
  );

test("picking begins at the prompt's last token, and a click takes tokens in and out", async () => {
  scope("pick")?.click();
  await frame();
  expect(chosen()).toEqual([-1]);
  expect(options().map((one) => one.textContent)).toEqual(["<user>", "Hel", "lo", "␣", "↵", "<assistant>"]);
  expect(
    options()
      .map((one) => one.getAttribute("aria-selected"))
      .at(-1),
  ).toBe("true");
  options()[1]?.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, button: 0 }));
  await frame();
  expect(chosen()).toEqual([-5, -1]);
  options()[5]?.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, button: 0 }));
  await frame();
  expect(chosen()).toEqual([-5]);
  scope("all")?.click();
  await frame();
  expect([chosen(), options().length]).toEqual(["all", 0]);
  scope("pick")?.click();
  await frame();
  expect(chosen()).toEqual([-5]); // as it was left
});

test("keys alone pick tokens, and one of them can be tabbed to", async () => {
  scope("pick")?.click();
  await frame();
  expect(options().map((one) => one.tabIndex)).toEqual([-1, -1, -1, -1, -1, 0]);
  options()[5]?.focus();
  press("ArrowLeft");
  await frame();
  press(" ");
  await frame();
  expect(chosen()).toEqual([-2, -1]);
  press("ArrowLeft", { shiftKey: true });
  await frame();
  expect(chosen()).toEqual([-3, -2, -1]);
  press("Home");
  press("Enter");
  await frame();
  expect(chosen()).toEqual([-6, -3, -2, -1]);
});

test("places that this prompt does not have, and no place at all, are told", async () => {
  panel.close();
  const [row] = state().steering;
  const model = new FakeModel();
  model.values.state = state({ steering: [{ ...row, tokens: [-9, -1] } as NonNullable<typeof row>] });
  panel = show(model);
  model.say(say.start(1));
  model.say({ kind: "prompt", run: 1, tokens: ["a", "b"] });
  await frame();
  const says = () => panel.el.querySelector(".sl-pick .sl-say")?.textContent;
  expect(says()).toContain("−9 would lie before this prompt begins");
  model.change(
    "state",
    state({ revision: 1, steering: [{ ...row, tokens: [] } as NonNullable<typeof row>] }),
  );
  await frame();
  expect(says()).toBe("no token: it does nothing");
});

test("what cannot be seen in a token is spelled, and emoji stay whole", () => {
  expect(spelled(" the\u202e\u0007")).toBe("␣the⟨U+202E⟩␇");
  expect(visible(" the")).toBe(" the");
  expect([spelled(""), spelled("\u200d"), spelled("👩‍👧")]).toEqual(["(no text)", "⟨U+200D⟩", "👩‍👧"]);
});
