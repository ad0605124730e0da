/** The cell that a new lab begins with, from what a person set. */
import type { Settings } from "./settings";

type ForALab = Pick<Settings, "model" | "backend" | "host" | "ahead">;

export function cell({ model, backend, host, ahead }: ForALab): string {
  const named = model.trim();
  const server = host ? `host=${quoted(host)}` : "remote=True";
  const given = [...(named ? [quoted(named)] : []), ...(backend === "ndif" ? [server] : [])];
  const more = ahead === null ? [] : [`lab.ahead = ${ahead}`];
  return ["import steerlab as sl", "", `lab = sl.Lab(${given.join(", ")})`, ...more, "lab"].join("\n");
}

/** As a string of Python, which knows every escape that JSON writes. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
