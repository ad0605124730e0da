/** Errors, in words, with what to do; and the plain truth about a kernel that does not answer. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { runCells, runsCells } from "./host";
import type { Store } from "./store";

export function Banner({ store }: { store: Store }) {
  const error = store.stream.error.value;
  const connection = store.connection.value;
  const missing = store.missing.value;
  return (
    <>
      {connection === "gone" && <Gone />}
      {connection === "waiting" && (
        <Note
          kind="waiting"
          what="The kernel has not answered yet."
          hint="It is busy with another cell, or it was shut down. The panel goes on by itself when it answers."
        />
      )}
      {error && connection === "live" && <Note kind="error" what={error.what} hint={error.hint} />}
      {missing && connection === "live" && <Note kind="missing" what={missing.what} hint={missing.hint} />}
    </>
  );
}

const RERUN =
  "The notebook’s cells can be run again, from the first to this panel’s; their panels are then set as they are now, also where you correct a cell and run it yourself.";
const INSTEAD = "To steer, run the cells again that make this lab, then the one that shows this panel.";

/** Without a kernel: the way back is one button, where the host can run cells, and else it is said which to run. */
function Gone() {
  const root = useRef<HTMLDivElement>(null);
  const [{ can, instead = INSTEAD }, setHost] = useState<ReturnType<typeof runsCells>>({ can: false });
  const [stage, setStage] = useState<"resting" | "running" | "failed">("resting");
  useEffect(() => {
    if (root.current) setHost(runsCells(root.current));
  }, []);
  const run = async () => {
    if (!root.current) return;
    setStage("running");
    const done = await runCells(root.current).catch(() => false);
    setStage(done ? "resting" : "failed");
  };
  const hint = `The texts below are its last. ${can ? RERUN : instead}`;
  return (
    <div ref={root} class="sl-gone">
      <Note kind="gone" what="The kernel is gone." hint={hint}>
        {can && (
          <button
            type="button"
            class="sl-button sl-primary"
            aria-disabled={stage === "running"}
            onClick={() => stage !== "running" && run()}
          >
            {stage === "running" ? "Running the cells…" : "Run the cells up to this panel"}
          </button>
        )}
        {stage === "failed" && (
          <p>
            <strong>Not all of them ran.</strong> A cell that failed says why, in the notebook; correct it and
            press again.
          </p>
        )}
      </Note>
    </div>
  );
}

export function Note({
  kind,
  what,
  hint,
  children,
}: {
  kind: "error" | "gone" | "waiting" | "missing";
  what: string;
  hint: string;
  children?: ComponentChildren;
}) {
  const sentence = what.charAt(0).toUpperCase() + what.slice(1);
  return (
    <div class="sl-note" data-kind={kind} role={kind === "error" ? "alert" : "status"}>
      <span class="sl-mark" aria-hidden="true">
        {kind === "waiting" ? "…" : "!"}
      </span>
      <div class="sl-note-body">
        <p>
          <strong>{/[.!?]$/.test(sentence) ? sentence : `${sentence}.`}</strong> {hint}
        </p>
        {children}
      </div>
    </div>
  );
}
