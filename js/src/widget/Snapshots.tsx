/** What was set, under a name: to go back to, to see side by side, and to give to someone else as a text. */
import { useEffect, useState } from "preact/hooks";
import type {
  ComparedText,
  OpenSharedQuestion,
  ShareQuestion,
  SnapshotInfo,
  SnapshotQuestion,
} from "../protocol";
import { Note } from "./Banner";
import { Failed } from "./Failed";
import { Form } from "./Form";
import { copy } from "./host";
import type { Store } from "./store";
import { NoAnswer } from "./TokenPane";
import type { TabProps } from "./tablist";
import { Unanswered } from "./Unanswered";
import { useAction } from "./useAction";
import { useAsk } from "./useAsk";
import { useVerdict } from "./Verdict";
import { Working } from "./Working";

export function Snapshots({ store, open }: TabProps) {
  const kept = store.snapshots.value;
  const doing = useAction<SnapshotQuestion>(store);
  const [name, setName] = useState("");
  const [ticked, setTicked] = useState<readonly string[]>([]);
  const chosen = kept.filter((one) => ticked.includes(one.name));
  const last = doing.asked?.question;
  const lost = doing.asked?.answer.value?.lost && last?.do !== "bring back" ? last : undefined;
  const next = name.trim() || unused(kept);
  const act = (what: SnapshotQuestion["do"], which: string) => {
    store.flush();
    doing.act({ kind: "snapshot", do: what, name: which, revision: store.state.peek().revision }, () => {
      if (what === "keep") setName("");
    });
  };
  return (
    <div class="sl-atlas">
      <section aria-label="Kept">
        <Form look="sl-bar" send={() => act("keep", next)}>
          <input
            class="sl-text-field sl-keep-name"
            aria-label="Name of the snapshot"
            placeholder={unused(kept)}
            maxLength={80}
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <button type="submit" class="sl-button">
            {kept.some((one) => one.name === next) ? "Replace it by what is set" : "Keep what is set"}
          </button>
        </Form>
        <Failed error={doing.asked?.error.value} />
        {lost && (
          <p class="sl-bar sl-kept-lost">
            <span role="status">
              {lost.name} was {lost.do === "delete" ? "deleted" : "replaced"}.
            </span>
            <button type="button" class="sl-button" onClick={() => act("bring back", lost.name)}>
              Bring it back
            </button>
          </p>
        )}
        {kept.length === 0 ? (
          <p class="sl-empty">
            A snapshot keeps prompt, recipe, sampling and seed. Two or more can be compared here.
          </p>
        ) : (
          <ul class="sl-kept">
            {kept.map((one) => (
              <Kept
                key={one.name}
                one={one}
                ticked={ticked.includes(one.name)}
                tick={(yes) =>
                  setTicked(yes ? [...ticked, one.name] : ticked.filter((other) => other !== one.name))
                }
                act={act}
              />
            ))}
          </ul>
        )}
      </section>
      <Compared store={store} open={open} chosen={chosen} />
      <Shared store={store} />
    </div>
  );
}

interface KeptProps {
  one: SnapshotInfo;
  ticked: boolean;
  tick(yes: boolean): void;
  act(what: SnapshotQuestion["do"], name: string): void;
}

function Kept({ one, ticked, tick, act }: KeptProps) {
  const sampled = one.temperature ? `, temperature ${one.temperature}, seed ${one.seed}` : "";
  return (
    <li class="sl-kept-one">
      <label class="sl-name" title="Compare it with others">
        <input
          type="checkbox"
          aria-label={`Compare ${one.name}`}
          checked={ticked}
          onChange={(event) => tick(event.currentTarget.checked)}
        />
        <span>{one.name}</span>
      </label>
      <span class="sl-kept-what">
        <q>{one.prompt}</q> {one.steps.length ? one.steps.join("; ") : "not steered"}
        {sampled}
      </span>
      <span class="sl-kept-do">
        <button
          type="button"
          class="sl-button"
          aria-label={`Restore ${one.name}`}
          onClick={() => act("restore", one.name)}
        >
          Restore
        </button>
        <button
          type="button"
          class="sl-button"
          aria-label={`Delete ${one.name}`}
          onClick={() => act("delete", one.name)}
        >
          Delete
        </button>
      </span>
    </li>
  );
}

interface ComparedProps {
  store: Store;
  open: boolean;
  chosen: readonly SnapshotInfo[];
}

/** The texts of the ticked ones, side by side. */
function Compared({ store, open, chosen }: ComparedProps) {
  const names = chosen.map((one) => one.name);
  const fingerprints = chosen.map((one) => one.fingerprint);
  const { epoch } = store.info.value;
  const wanted = open && names.length > 1;
  const { asked, answer, again } = useAsk(
    store,
    wanted ? { kind: "compare", names, fingerprints, epoch } : null,
  );
  if (names.length < 2)
    return names.length === 1 ? <p class="sl-empty">Tick another one to compare with it.</p> : null;
  return (
    <section aria-label="Compared">
      <Working asked={asked} what="Writing the texts" />
      <Unanswered asked={asked} again={again} />
      {answer && (
        <div class="sl-panes" data-stale={asked?.status.value === "going"}>
          {answer.texts.map((text) => (
            <Text key={text.name} text={text} refusals={store.info.value.refusals} />
          ))}
        </div>
      )}
    </section>
  );
}

function Text({ text: one, refusals }: { text: ComparedText; refusals: readonly string[] }) {
  const { name, text, verdict, fault, applied, finish } = one;
  const { button, rule } = useVerdict(verdict, refusals);
  return (
    <section class="sl-pane" aria-label={name}>
      <h4>{name}</h4>
      <div class="sl-scroll" tabIndex={0} role="region" aria-label={`${name} text`}>
        <div class="sl-text" dir="auto">
          {text}
        </div>
        <NoAnswer fault={fault} />
      </div>
      <div class="sl-foot">
        <p class="sl-facts">
          {button}
          <span>{applied ? `applied on ${applied.steps} of ${applied.of} steps` : "not steered"}</span>
          <span>
            {fault
              ? "no answer"
              : finish === "length"
                ? "cut"
                : finish === "stop"
                  ? "ended by itself"
                  : "stopped"}
          </span>
        </p>
        {rule}
      </div>
    </section>
  );
}

/** The text of `sl.share`, both ways. */
function Shared({ store }: { store: Store }) {
  const sharing = useAction<ShareQuestion>(store);
  const opening = useAction<OpenSharedQuestion>(store);
  const [text, setText] = useState("");
  const [said, setSaid] = useState("");
  const revision = store.state.value.revision;
  const made = sharing.asked?.answer.value?.text;
  const old = made !== undefined && sharing.asked?.question.revision !== revision;
  useEffect(() => {
    const timer = setTimeout(() => setSaid(""), 3000);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <section aria-label="Share">
      <h4 class="sl-label">Share</h4>
      <div class="sl-adding">
        <button
          type="button"
          class="sl-button"
          title="Model, prompt, recipe, sampling and seed, as sl.share(lab) writes them"
          onClick={() => {
            store.flush();
            const now = store.state.peek().revision;
            sharing.act({ kind: "share", revision: now }, async (answer) => {
              setSaid((await copy(answer.text)) ? "Copied" : "Select the text to copy it");
            });
          }}
        >
          Share what is set
        </button>
        <span role="status" class="sl-said">
          {said}
        </span>
      </div>
      <Working asked={sharing.asked} what="Writing the text" />
      <Failed error={sharing.asked?.error.value} />
      {made !== undefined && (
        <>
          <textarea
            class="sl-shared"
            readOnly
            rows={3}
            aria-label="Shared text"
            value={made}
            onFocus={(event) => event.currentTarget.select()}
          />
          <p class="sl-hint">
            {old ? "What is set has changed since. " : ""}
            {`${made.length} characters; another lab of the same model opens it, here or with sl.open_shared(text).`}
          </p>
        </>
      )}
      <Form
        look="sl-adding"
        send={() => {
          if (!text.trim()) return;
          opening.act({ kind: "open-shared", text }, () => {
            setText("");
            setSaid("Opened; undo takes it back");
          });
        }}
      >
        <input
          class="sl-text-field sl-open-text"
          aria-label="A shared text to open"
          placeholder="steerlab1-…"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="sl-button">
          Open a shared text
        </button>
      </Form>
      <Working asked={opening.asked} what="Opening" />
      <Failed error={opening.asked?.error.value} />
      {opening.asked?.answer.value?.warning && (
        <Note kind="waiting" what={opening.asked.answer.value.warning} hint="" />
      )}
    </section>
  );
}

/** A name for the next one. */
function unused(kept: readonly SnapshotInfo[]): string {
  let n = kept.length + 1;
  while (kept.some((one) => one.name === `snapshot ${n}`)) n++;
  return `snapshot ${n}`;
}
