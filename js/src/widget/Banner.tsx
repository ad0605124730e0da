/** Errors, in words, with what to do; and the plain truth about a kernel that does not answer. */
import type { Store } from "./store";

export function Banner({ store }: { store: Store }) {
  const error = store.stream.error.value;
  const connection = store.connection.value;
  return (
    <>
      {connection === "gone" && (
        <Note
          kind="gone"
          what="The kernel is gone: run the cell again to steer."
          hint="The last texts stay below."
        />
      )}
      {connection === "waiting" && (
        <Note
          kind="waiting"
          what="The kernel has not answered yet."
          hint="It is busy with another cell, or it was shut down. The panel goes on by itself when it answers."
        />
      )}
      {error && connection === "live" && <Note kind="error" what={error.what} hint={error.hint} />}
    </>
  );
}

export function Note({
  kind,
  what,
  hint,
}: {
  kind: "error" | "gone" | "waiting";
  what: string;
  hint: string;
}) {
  const sentence = what.charAt(0).toUpperCase() + what.slice(1);
  return (
    <div class="sl-note" data-kind={kind} role={kind === "error" ? "alert" : "status"}>
      <span class="sl-mark" aria-hidden="true">
        {kind === "waiting" ? "…" : "!"}
      </span>
      <p>
        <strong>{/[.!?]$/.test(sentence) ? sentence : `${sentence}.`}</strong> {hint}
      </p>
    </div>
  );
}
