/** What the status says of a model on a server, as a button that opens the list of this lab's jobs there. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { EndJobQuestion, Job, ListedJob } from "../protocol";
import { Failed } from "./Failed";
import { copy } from "./host";
import type { Store } from "./store";
import { useAction } from "./useAction";
import { useAsk } from "./useAsk";
import { useCalls } from "./useCalls";
import { useDrop } from "./useDrop";

/** The stages of a job on a server; one that is not here is shown by its own name. */
const STAGES: Record<string, string> = {
  sending: "sending to the server",
  received: "received by the server",
  queued: "in the queue",
  provisioning: "making room for the model",
  deploying: "loading the model",
  dispatched: "about to run",
  running: "running on the server",
  fetching: "fetching the result",
  completed: "done",
  unknown: "the server has not said",
  forgotten: "the server has forgotten it",
};
const PAUSE_MS = 2000; // between an answer and the next question, while the list is open

export function staged({ stage, position }: { stage: string; position: number | null }): string {
  const words = STAGES[stage] ?? stage;
  return position ? `${words}, number ${position}` : words;
}

export function Jobs({ store, word, look }: { store: Store; word: string; look: string }) {
  const { open, show, root, button, id } = useDrop();
  const job = store.job.value;
  const list = useRef<HTMLElement>(null);
  const [calls, setCalls] = useState(0);
  useCalls(list, () => {
    show();
    setCalls((before) => before + 1);
  });
  useEffect(() => {
    if (calls) list.current?.focus(); // what is hidden cannot have it
  }, [calls]);
  return (
    <div class="sl-jobs" role="group" aria-label="Server" {...root}>
      <span class="sl-status" role="status" data-look={look}>
        <button type="button" class="sl-jobs-open" title="Jobs on the server" {...button}>
          <span class="sl-dot" aria-hidden="true" />
          <span class="sl-jobs-word" title={word}>
            {word}
          </span>
          {job && store.connection.value === "live" && <Waited job={job} />}
          <svg class="sl-jobs-mark" viewBox="0 0 12 12" aria-hidden="true">
            <path d="m2.5 4.5 3.5 3.5 3.5-3.5" />
          </svg>
        </button>
      </span>
      <section
        ref={list}
        id={id}
        class="sl-drop sl-jobs-list"
        aria-label="Jobs on the server"
        tabIndex={-1}
        hidden={!open}
      >
        {/* a button that is pressed goes away: the keys stay in the list */}
        {open && <List store={store} onEnd={() => list.current?.focus()} />}
      </section>
    </div>
  );
}

/** How long a job has taken by now. Not read out, for it changes every second: the list of jobs says it, too. */
function Waited({ job: { seconds, usual } }: { job: Job }) {
  if (seconds < 2) return null;
  return (
    <span class="sl-waited" aria-hidden="true">
      {usual === null ? `${seconds} s` : `${seconds} of ~${usual} s`}
    </span>
  );
}

function List({ store, onEnd }: { store: Store; onEnd(): void }) {
  const [at, setAt] = useState(0);
  const { asked, answer } = useAsk(store, { kind: "jobs", at });
  const ending = useAction<EndJobQuestion>(store);
  const status = asked?.status.value;
  const stage = store.job.value?.stage ?? "";
  useEffect(() => {
    if (!status || status === "going") return;
    const next = setTimeout(() => setAt(at + 1), PAUSE_MS);
    return () => clearTimeout(next);
  }, [status, at]);
  useEffect(() => setAt((before) => before + 1), [stage]);
  return (
    <>
      <Failed error={ending.asked?.error.value ?? asked?.error.value} />
      {answer?.jobs.length ? (
        <ul>
          {answer.jobs.map((job) => (
            <One
              key={job.id}
              job={job}
              end={() => {
                onEnd();
                ending.act({ kind: "end-job", id: job.id }, () => setAt((before) => before + 1));
              }}
            />
          ))}
        </ul>
      ) : (
        <p class="sl-empty">{answer ? "No jobs now." : "Asking the server …"}</p>
      )}
      {answer?.more ? <p class="sl-empty">{`and ${answer.more} older: lab.jobs() lists them`}</p> : null}
      <p class="sl-jobs-hint">
        <code>lab.submit(rows)</code> leaves a job with the server: it goes on without this notebook.
      </p>
    </>
  );
}

function One({ job, end }: { job: ListedJob; end(): void }) {
  const [copied, setCopied] = useState(false);
  const short = job.id.slice(0, 8);
  const rows = job.rows === null ? "" : `${job.rows} ${job.rows === 1 ? "row" : "rows"}, `;
  return (
    <li class="sl-job" data-over={job.over}>
      <span class="sl-job-stage">{staged(job)}</span>
      <span class="sl-job-what">
        <code title={job.id}>{short}</code> {rows}
        {ago(job.seconds)}
        {job.left ? "" : ", for this panel or a cell"}
      </span>
      <span class="sl-job-do">
        {job.code && (
          <button
            type="button"
            class="sl-button"
            title={job.code}
            aria-label={`${copied ? "Copied" : "Copy"} code that fetches job ${short}`}
            onClick={async () => setCopied(await copy(job.code))}
          >
            {copied ? "Copied" : "Copy code"}
          </button>
        )}
        {!job.over && (
          <button type="button" class="sl-button" aria-label={`Cancel job ${short}`} onClick={end}>
            Cancel
          </button>
        )}
      </span>
    </li>
  );
}

/** How long ago, in the largest unit of which there is one. */
export function ago(seconds: number): string {
  const units = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ] as const;
  for (const [size, unit] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return `${Math.floor(seconds)} s ago`;
}
