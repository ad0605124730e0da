/** What the panel tells its host of itself (`host.ts`), and the recipe as code for a cell of it. */
import { effect } from "@preact/signals";
import type { CodeAnswer, Trouble } from "../protocol";
import type { About } from "./host";
import type { Store } from "./store";

const PATIENCE_MS = 10_000;

export function about(store: Store): About {
  const widget = store.page.slice(store.page.lastIndexOf("-") + 1); // as ui/snapshot.py names the page
  return { widget, live: store.connection.value !== "gone", code: () => code(store) };
}

async function code(store: Store): Promise<string> {
  if (store.connection.value === "gone") throw new Error("The kernel is gone, and the recipe with it.");
  store.flush(); // the recipe is what is seen
  const { revision, seed } = store.state.value;
  const { forms } = await answered(store, revision, seed);
  const [first] = forms;
  if (!first?.source) throw new Error(first?.missing ? words(first.missing) : "There is no recipe yet.");
  return first.source;
}

function answered(store: Store, revision: number, seed: number): Promise<CodeAnswer> {
  const asked = store.ask({ kind: "code", revision, seed });
  const late = setTimeout(() => asked.leave(), PATIENCE_MS);
  return new Promise<CodeAnswer>((resolve, reject) => {
    const end = effect(() => {
      const { value } = asked.answer;
      const error = asked.error.value;
      if (value) resolve(value);
      else if (error) reject(new Error(words(error)));
      else if (asked.status.value !== "going") reject(new Error("The kernel is busy and has not answered."));
      else return;
      queueMicrotask(() => end());
      clearTimeout(late);
    });
  });
}

const words = ({ what, hint }: Trouble) =>
  `${what.charAt(0).toUpperCase()}${what.slice(1)}${/[.!?]$/.test(what) ? "" : "."} ${hint}`.trim();
