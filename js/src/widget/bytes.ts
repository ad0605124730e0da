/** Files by the browser alone: chosen in its dialog, and saved by a link to a blob. Nothing is fetched. */
import type { FileBytes, Trouble } from "../protocol";

export const MOST_MB = 7; // the notebook's server takes messages of 10 MB, and base64 is a third longer

/** Why files cannot be sent; null where they can. hint: what to do instead. */
export function tooLarge(files: readonly File[], hint: string): Trouble | null {
  const size = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
  if (size <= MOST_MB) return null;
  const names = files.map((file) => file.name).join(", ");
  return { what: `${names} has ${size.toFixed(1)} MB, and the panel takes ${MOST_MB}`, hint };
}

/** The bytes of chosen files, or why they are too many. */
export async function contents(files: readonly File[]): Promise<FileBytes[] | Trouble> {
  const recipe = files.some(({ name }) => name.endsWith(".steer.json"));
  const cell = recipe
    ? "lab.recipe = sl.Recipe.load(path)"
    : 'lab.directions = {**lab.directions, "name": sl.formats.load(path)}';
  const trouble = tooLarge(files, `Read it in a cell: ${cell}`);
  if (trouble) return trouble;
  return Promise.all(
    files.map(async (file) => ({ name: file.name, data: base64(new Uint8Array(await file.arrayBuffer())) })),
  );
}

export function base64(bytes: Uint8Array): string {
  let text = "";
  // a call takes only so many arguments
  for (let i = 0; i < bytes.length; i += 0x8000)
    text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

/** Has the browser save files. */
export function save(files: readonly FileBytes[]): void {
  for (const { name, data } of files) {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}
