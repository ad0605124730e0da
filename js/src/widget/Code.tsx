/** The recipe as a program: read it, copy it, or put it into a cell where the notebook can. */

import { useEffect, useRef, useState } from "preact/hooks";
import { able } from "./able";
import { Failed } from "./Failed";
import { copy, insertCell, insertsCells } from "./host";
import { Segmented } from "./Segmented";
import type { TabProps } from "./tablist";
import { useAsk } from "./useAsk";

export function Code({ store, open }: TabProps) {
  const { revision, seed } = store.state.value;
  const { asked, answer } = useAsk(store, open ? { kind: "code", revision, seed } : null);
  const [chosen, setChosen] = useState("steerlab");
  const [said, setSaid] = useState("");
  const [inserts, setInserts] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => setInserts(root.current !== null && insertsCells(root.current)), [open]);
  useEffect(() => {
    const timer = setTimeout(() => setSaid(""), 3000);
    return () => clearTimeout(timer);
  }, [said]);
  const forms = answer?.forms ?? [];
  const form = forms.find(({ name }) => name === chosen) ?? forms[0];
  const put = async () => setSaid((await copy(form?.source ?? "")) ? "Copied" : "Select the text to copy it");
  return (
    <div ref={root}>
      <Failed error={asked?.error.value} />
      {form ? (
        <>
          <div class="sl-bar">
            <Segmented
              label="Written as"
              options={forms.map(({ name, title }) => ({ value: name, title }))}
              value={form.name}
              onChange={setChosen}
            />
            <p class="sl-code-title">{form.title}</p>
            <div class="sl-code-do">
              <span role="status">{said}</span>
              <button type="button" class="sl-button" {...able(Boolean(form.source), put)}>
                Copy
              </button>
              {inserts && form.language === "python" && form.source && (
                <button
                  type="button"
                  class="sl-button"
                  onClick={() => {
                    if (root.current && insertCell(root.current, form.source)) setSaid("Inserted");
                  }}
                >
                  Insert a cell below
                </button>
              )}
            </div>
          </div>
          {form.missing ? (
            <Failed error={form.missing} />
          ) : (
            <pre class="sl-code" tabIndex={0} role="region" aria-label={`The recipe as ${form.name}`}>
              {form.source}
            </pre>
          )}
        </>
      ) : (
        !asked?.error.value && <p class="sl-empty">The kernel writes it as soon as it answers.</p>
      )}
    </div>
  );
}
