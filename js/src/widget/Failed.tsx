/** Why an answer did not come, in words, where it would have stood. */
import type { Trouble } from "../protocol";
import { Note } from "./Banner";

export function Failed({ error }: { error: Trouble | null | undefined }) {
  return error ? <Note kind="error" what={error.what} hint={error.hint} /> : null;
}
