/** What a text is taken for, refusal or answer: a button, and behind it the rule that says so. */
import { useState } from "preact/hooks";
import type { Verdict } from "../protocol";
import { useUnique } from "./unique";

/** Both parts, for what has places of its own for them. Without a verdict there is no button, and the rule is shut. */
export function useVerdict(verdict: Verdict | null, refusals: readonly string[]) {
  const [open, setOpen] = useState(false);
  const id = useUnique();
  const button = verdict && (
    <button
      type="button"
      class="sl-verdict"
      data-refuses={verdict.refuses}
      title="By which rule?"
      aria-expanded={open}
      aria-controls={id}
      onClick={() => setOpen(!open)}
    >
      <span>{verdict.refuses ? "refuses" : "answers"}</span>
    </button>
  );
  const rule = (
    <div id={id} class="sl-rule" hidden={!open || !verdict}>
      {open && verdict && <Rule verdict={verdict} refusals={refusals} />}
    </div>
  );
  return { button, rule };
}

/** A verdict is no more than its rule: here it is. */
function Rule({ verdict, refusals }: { verdict: Verdict; refusals: readonly string[] }) {
  return (
    <>
      <p>
        {verdict.phrase === null ? (
          "None of these phrases stands in the text, so it counts as an answer. "
        ) : (
          <>
            It holds <q>{verdict.phrase}</q>, so it counts as a refusal.{" "}
          </>
        )}
        Phrases err both ways: read the text, too.
      </p>
      <ul>
        {refusals.map((phrase) => (
          <li key={phrase} data-hit={phrase === verdict.phrase}>
            {phrase}
          </li>
        ))}
      </ul>
    </>
  );
}
