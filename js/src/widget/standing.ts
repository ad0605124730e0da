/** What a panel is doing, in a word: in its header, and wherever else that is said. */
import { staged } from "./Jobs";
import type { Standing } from "./jupyterlab";
import type { Store } from "./store";

const WORDS = { idle: "ready", done: "ready", running: "generating", stopped: "stopped", error: "error" };

/** The word, and how the dot before it looks. */
export function doing(store: Store): { word: string; look: string } {
  const connection = store.connection.value;
  const job = store.job.value;
  const status = store.stream.status.value;
  if (connection === "gone") return { word: "kernel gone", look: connection };
  if (connection === "waiting") return { word: connection, look: connection };
  if (job) return { word: staged(job), look: "running" };
  return { word: WORDS[status], look: status };
}

export function standing(store: Store): Standing {
  const { name, backend, device } = store.info.value;
  const job = store.connection.value === "live" ? store.job.value : null;
  return { model: name, backend, device, word: doing(store).word, place: job?.position ?? null };
}
