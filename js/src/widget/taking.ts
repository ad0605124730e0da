/** Files that something else in the page gives to the panel, read as those that are chosen in it. */
import type { Trouble } from "../protocol";
import { NOTHING } from "./Adding";
import { contents } from "./bytes";
import type { Store } from "./store";

const GONE: Trouble = {
  what: "the kernel of the panel is gone",
  hint: "Run the notebook’s cells again, up to the panel, then come back.",
};

/** Reads them, and answers why that could not be; null where the panel is set by them now. */
export async function take(store: Store, files: readonly File[]): Promise<Trouble | null> {
  const read = await contents(files);
  if ("what" in read) return read;
  if (store.connection.peek() === "gone") return GONE;
  store.flush(); // what is typed or moved comes before it
  const asked = store.ask({ kind: "load", files: read, ...NOTHING });
  return new Promise((resolve) => {
    asked.status.subscribe((status) => {
      if (status === "going") return;
      const open = asked.answer.peek()?.question;
      resolve(
        open ? { what: open.what, hint: "Load it in the panel, which asks for it." } : asked.error.peek(),
      );
    });
  });
}
