/** Finding a direction: prompts and a method, then the map of positions x layers, from which any other candidate can be taken. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { FindQuestion, PromptSet, Question } from "../protocol";
import { able } from "./able";
import { Failed } from "./Failed";
import { FindMap, FoundWords } from "./FindMap";
import { Form } from "./Form";
import { NumberField } from "./NumberField";
import { PromptSetField } from "./PromptSetField";
import { bundled, count, typed } from "./prompts";
import type { Store } from "./store";
import { useUnique } from "./unique";
import { useShared } from "./useShared";
import { Working } from "./Working";

type Method = FindQuestion["method"];

interface MethodWords {
  title: string;
  hint: string;
  positive: string;
  negative: string;
  /** Whether the cell of the map is given instead of chosen by scores. */
  cell: boolean;
  point: FindQuestion["point"];
}

const SIDES = { positive: "prompts that show it", negative: "prompts that lack it" };
const METHODS: Record<Method, MethodWords> = {
  selection: {
    title: "difference in means, best cell (Arditi et al. 2024)",
    hint: "Every position and layer is tried: ablated it should stop refusals, added it should cause them, and little else should change.",
    positive: "prompts that are refused",
    negative: "prompts that are answered",
    cell: false,
    point: "resid_pre",
  },
  means: {
    title: "difference in means, at a cell",
    hint: "The mean of one side minus the mean of the other, at the layer that you give.",
    ...SIDES,
    cell: true,
    point: "resid_pre",
  },
  components: {
    title: "principal component of pairs",
    hint: "The n-th lines of the two sides are a pair; the direction in which the pairs differ most.",
    ...SIDES,
    cell: true,
    point: "resid_post",
  },
  caa: {
    title: "contrastive answers (CAA)",
    hint: "Two answers to each question, read inside of the answer.",
    positive: "answers that show it",
    negative: "answers that lack it",
    cell: true,
    point: "resid_post",
  },
  probe: {
    title: "logistic probe",
    hint: "The weights of a logistic regression that tells the sides apart.",
    ...SIDES,
    cell: true,
    point: "resid_pre",
  },
  pair: {
    title: "two prompts",
    hint: "One text minus another, without chat template: “Love” minus “Hate”.",
    positive: "a text that shows it",
    negative: "a text that lacks it",
    cell: true,
    point: "resid_pre",
  },
};

/** The buttons below the directions, and what they open. */
export function Finder({ store }: { store: Store }) {
  const [open, setOpen] = useState<"search" | "pair" | null>(null);
  // what was opened once stays, hidden, so that a search goes on and what was typed is kept
  const [visited, setVisited] = useState<readonly string[]>([]);
  const id = useUnique();
  const toggle = (which: "search" | "pair") => {
    setOpen(open === which ? null : which);
    if (!visited.includes(which)) setVisited([...visited, which]);
  };
  const buttons = useRef<HTMLDivElement>(null);
  const close = () => {
    buttons.current?.querySelector<HTMLElement>(`[data-opens="${open}"]`)?.focus();
    setOpen(null);
  };
  return (
    <>
      <div ref={buttons} class="sl-adds">
        {(["search", "pair"] as const).map((which) => (
          <button
            key={which}
            type="button"
            class="sl-button"
            data-opens={which}
            aria-expanded={open === which}
            aria-controls={`${id}-${which}`}
            onClick={() => toggle(which)}
          >
            {which === "search" ? "+ find a new direction…" : "+ from two prompts…"}
          </button>
        ))}
      </div>
      {(["search", "pair"] as const).map((which) => (
        <div key={which} id={`${id}-${which}`} hidden={open !== which}>
          {visited.includes(which) && (
            <Find
              store={store}
              first={which === "pair" ? "pair" : "selection"}
              open={open === which}
              close={close}
            />
          )}
        </div>
      ))}
    </>
  );
}

interface Props {
  store: Store;
  first: Method;
  open: boolean;
  close(): void;
}

function Find({ store, first, open, close }: Props) {
  const { n_layers } = store.info.value;
  const [name, setName] = useState(() => fresh(store, first === "pair" ? "difference" : "direction"));
  const [method, setMethod] = useState<Method>(first);
  const empty = first === "pair";
  const [positive, setPositive] = useState<PromptSet>(empty ? typed("") : bundled("harmful", 64));
  const [negative, setNegative] = useState<PromptSet>(empty ? typed("") : bundled("harmless", 64));
  const [questions, setQuestions] = useState<PromptSet>(typed(""));
  const [layer, setLayer] = useState(Math.floor(n_layers / 2));
  const [readAt, setReadAt] = useState<FindQuestion["position"]>("response");
  const [limits, setLimits] = useState({ max_kl: 0.1, min_induce: 0 });
  const [drop, setDrop] = useState(true);
  const root = useRef<HTMLElement>(null);
  // with the form itself: what is typed before an effect would be lost
  useLayoutEffect(() => {
    if (open) root.current?.querySelector<HTMLElement>("input, select")?.focus();
  }, [open]);

  const mine = (one: Question) => one.kind === "find" && (one.method === "pair") === (first === "pair");
  const { asked, ask: put } = useShared<"find">(store, `find ${first}`, open, mine, (question) => {
    setName(question.name);
    setMethod(question.method);
    setPositive(question.positive);
    setNegative(question.negative);
    if (question.asked) setQuestions(question.asked);
    setLayer(question.layer);
    if (question.method === "caa") setReadAt(question.position);
    setLimits({ max_kl: question.max_kl, min_induce: question.min_induce });
    setDrop(question.drop);
  });

  const found = asked?.answer.value?.best;
  useEffect(() => {
    if (found) setName((now) => fresh(store, now)); // another search is not to overwrite it unasked
  }, [found]);
  const words = METHODS[method];
  const taken = store.directions.value.some((direction) => direction.name === name.trim());
  const busy = asked?.status.value === "going";
  const ready =
    name.trim() !== "" &&
    [positive, negative, ...(method === "caa" ? [questions] : [])].every((set) =>
      set.source === "file" ? set.text !== "" : count(set) !== 0,
    );
  const can = ready && !busy && store.connection.value !== "gone";
  const ask = (thresholds = limits) => {
    put({
      kind: "find",
      name: name.trim(),
      method,
      positive,
      negative,
      asked: method === "caa" ? questions : null,
      point: words.point,
      position: method === "caa" ? readAt : -1,
      layer: Math.min(layer, n_layers - 1),
      ...thresholds,
      drop,
    });
  };
  return (
    <section
      ref={root}
      class="sl-find"
      aria-label={first === "pair" ? "A direction from two prompts" : "Find a direction"}
    >
      <Form look="sl-form" send={() => can && ask()}>
        <label class="sl-form-field">
          <span>name</span>
          <input
            class="sl-field"
            type="text"
            maxLength={80}
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          {taken && <span class="sl-remark">takes the place of the one of this name</span>}
        </label>
        {first !== "pair" && (
          <label class="sl-form-field">
            <span>method</span>
            <select
              class="sl-select"
              value={method}
              onChange={(event) => setMethod(event.currentTarget.value as Method)}
            >
              {Object.entries(METHODS).map(([key, { title }]) => (
                <option key={key} value={key}>
                  {title}
                </option>
              ))}
            </select>
          </label>
        )}
        {words.cell && (
          <div class="sl-form-field">
            <span aria-hidden="true">layer</span>
            <NumberField
              label="Layer of the direction"
              value={layer}
              min={0}
              max={n_layers - 1}
              integer
              onChange={setLayer}
            />
          </div>
        )}
        {method === "caa" && (
          <label class="sl-form-field">
            <span>read at</span>
            <select
              class="sl-select"
              value={String(readAt)}
              onChange={(event) => {
                const at = event.currentTarget.value;
                setReadAt(at === "response" ? at : Number(at));
              }}
            >
              <option value="response">the mean over the answer</option>
              <option value="-1">the last token of the answer</option>
              <option value="-2">the last but one, as in “(A)”</option>
            </select>
          </label>
        )}
        <p class="sl-remark sl-whole">{words.hint}</p>
        {method === "caa" && (
          <PromptSetField
            label="questions"
            value={questions}
            onChange={setQuestions}
            placeholder="A question a line"
          />
        )}
        <PromptSetField
          label={words.positive}
          value={positive}
          onChange={setPositive}
          {...(method === "pair" ? { placeholder: "Love" } : {})}
        />
        <PromptSetField
          label={words.negative}
          value={negative}
          onChange={setNegative}
          {...(method === "pair" ? { placeholder: "Hate" } : {})}
        />
        {method === "selection" && (
          <details class="sl-filter">
            <summary>The filter</summary>
            <span>
              KL at most{" "}
              <NumberField
                label="The largest KL, in nats, that ablation may cause on answered prompts"
                value={limits.max_kl}
                step={0.05}
                onChange={(max_kl) => setLimits({ ...limits, max_kl })}
              />
            </span>
            <span>
              induce at least{" "}
              <NumberField
                label="The lowest refusal score that addition must cause on answered prompts"
                value={limits.min_induce}
                step={0.5}
                onChange={(min_induce) => setLimits({ ...limits, min_induce })}
              />
            </span>
            <label class="sl-check">
              <input
                type="checkbox"
                checked={drop}
                onChange={(event) => setDrop(event.currentTarget.checked)}
              />
              leave out prompts that the model takes the other way
            </label>
          </details>
        )}
        <div class="sl-form-go">
          <button type="submit" class="sl-button sl-primary" {...able(can)}>
            Find
          </button>
          <button type="button" class="sl-button" onClick={close}>
            Close
          </button>
        </div>
      </Form>
      <Working asked={asked} what="The search" />
      <Failed error={asked?.error.value} />
      {/* always there, so that a screen reader hears what comes into it */}
      <div role="status">
        {asked?.status.value === "cancelled" && <p class="sl-remark">Cancelled: nothing was changed.</p>}
        {asked?.answer.value && <FoundWords answer={asked.answer.value} />}
      </div>
      {asked?.answer.value && (
        <FindMap
          store={store}
          answer={asked.answer.value}
          onRelax={(thresholds) => {
            setLimits(thresholds);
            ask(thresholds);
          }}
        />
      )}
    </section>
  );
}

/** The name, or one with a number that no direction has. */
function fresh(store: Store, wanted: string): string {
  const known = new Set(store.directions.value.map(({ name }) => name));
  const [, base = wanted, n = "1"] = wanted.match(/^(.*\S) (\d+)$/) ?? [];
  let name = wanted;
  for (let i = Number(n) + 1; known.has(name.trim()); i++) name = `${base} ${i}`;
  return name;
}
