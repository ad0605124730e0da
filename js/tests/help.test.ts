import { afterEach, beforeEach, expect, test } from "vitest";
import { frame, type Shown, show } from "./fakes";

let panel: Shown;
beforeEach(() => {
  panel = show();
});
afterEach(() => panel.close());

const button = () => panel.el.querySelector<HTMLElement>('[aria-label="Help"].sl-step');
const drop = () => panel.el.querySelector<HTMLElement>("section.sl-drop");

test("a question mark opens the words and the keys, and Escape or a press elsewhere closes them", async () => {
  expect(drop()?.hidden).toBe(true);
  button()?.click();
  await frame();
  expect([drop()?.hidden, button()?.getAttribute("aria-expanded")]).toEqual([false, "true"]);
  expect(drop()?.textContent).toContain("activation addition");
  expect(drop()?.textContent).toContain("Ctrl+Z");
  expect(drop()?.textContent, "a narrow header has no room for it").toContain(
    "nametinysize4 layers × 16backendlocaldevicecpuprecisionfloat32",
  );
  button()?.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await frame();
  expect([drop()?.hidden, document.activeElement === button()]).toEqual([true, true]);
  button()?.click();
  await frame();
  drop()?.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await frame();
  expect(drop()?.hidden).toBe(false);
  document.body.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  await frame();
  expect(drop()?.hidden).toBe(true);
});

test("they close behind the focus, which they would lie over", async () => {
  button()?.click();
  await frame();
  const leave = (to: Element | null) =>
    drop()?.dispatchEvent(new FocusEvent("focusout", { bubbles: true, relatedTarget: to }));
  leave(button());
  leave(null); // the window lost the focus
  await frame();
  expect(drop()?.hidden).toBe(false);
  leave(panel.el.querySelector("textarea"));
  await frame();
  expect(drop()?.hidden).toBe(true);
});
