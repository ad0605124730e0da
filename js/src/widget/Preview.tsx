/** The texts, side by side, and how they are sampled. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { able } from "./able";
import { Legend } from "./charts/Legend";
import { type Coloured, type Colouring, coloured, PLAIN, type TokenLook } from "./look";
import { NumberField } from "./NumberField";
import { type Pointed, TokenCard } from "./TokenCard";
import { TokenPane } from "./TokenPane";
import type { TabProps } from "./tablist";
import { useUnique } from "./unique";

const LINGER_MS = 200; // long enough to move the pointer from a token into its card

export function Preview({ store, open, show }: TabProps) {
  const [by, setBy] = useState<Colouring>({ by: "none" });
  const [spelled, setSpelled] = useState(false);
  const { details, stream } = store;
  const panes = stream.panes.value;
  const wanted = open && details.ready && (spelled || by.by !== "none");
  useEffect(() => {
    if (wanted) for (const pane of panes) if (pane.length.peek()) details.want(pane.id);
  }, [wanted, stream.run.value]);
  const answers = panes.map(({ id }) => details.of(id)).filter((one) => one !== null);
  const key = answers.map(({ pane, run }) => `${pane} ${run}`).join();
  const colours = useMemo(() => coloured(by, answers), [by, key]);
  const looks = useMemo(() => {
    if (!spelled && !colours) return new Map<string, TokenLook>();
    const names = new Map(answers.map((one) => [one.pane, one.tokens.slice(one.n_prompt)]));
    const look = (id: string): TokenLook => ({
      spelled,
      values: colours?.values.get(id) ?? [],
      scale: colours?.scale ?? null,
      names: names.get(id) ?? [],
    });
    return new Map(panes.map(({ id }) => [id, look(id)]));
  }, [colours, spelled, key, panes]);
  const { pointed, walker, hover, card } = useCard({ store, open, show });
  const hint = useUnique();
  const { max_new_tokens, temperature, seed, control } = store.state.value;
  const running = store.stream.status.value === "running" && store.connection.value !== "gone";
  return (
    <>
      <div class="sl-bar">
        <label
          class="sl-check"
          title="The same recipe with random directions of the same norms: what any push as large would do"
        >
          <input
            type="checkbox"
            checked={control}
            onChange={(event) => store.edit({ control: event.currentTarget.checked })}
          />
          random control
        </label>
        <div class="sl-sampling" role="group" aria-label="Sampling">
          <span>
            tokens
            <NumberField
              label="New tokens, at most"
              value={max_new_tokens}
              min={1}
              max={4096}
              integer
              onChange={(n) => store.edit({ max_new_tokens: n })}
            />
          </span>
          <span>
            temperature
            <NumberField
              label="Temperature; 0 takes the likeliest token"
              value={temperature}
              min={0}
              max={10}
              step={0.1}
              onChange={(t) => store.edit({ temperature: t })}
            />
          </span>
          <span data-off={temperature === 0}>
            seed
            <NumberField
              label="Seed of the sampling"
              value={seed}
              min={0}
              max={2 ** 31 - 1}
              integer
              onChange={(n) => store.edit({ seed: n })}
            />
          </span>
        </div>
        <button type="button" class="sl-button sl-stop" {...able(running, () => store.stop())}>
          <span class="sl-square" aria-hidden="true" /> Stop
        </button>
      </div>
      <div class="sl-panes">
        {panes.map((pane) => (
          <TokenPane
            key={pane.id}
            pane={pane}
            refusals={store.info.value.refusals}
            look={looks.get(pane.id) ?? PLAIN}
            walker={walker(pane.id)}
            hint={hint}
          />
        ))}
      </div>
      <p id={hint} class="sl-sr">
        Enter goes into the text, token by token; arrows walk, Enter opens the lens at a token, Tab goes on.
      </p>
      <Colours store={store} by={by} colours={colours} onChange={setBy}>
        <label class="sl-check" title="Spaces, line ends, control characters and special tokens, spelled out">
          <input
            type="checkbox"
            checked={spelled}
            onChange={(event) => setSpelled(event.currentTarget.checked)}
          />
          show spaces and special tokens
        </label>
      </Colours>
      <TokenCard store={store} id={card} pointed={pointed} onHover={hover} />
    </>
  );
}

interface ColoursProps {
  store: TabProps["store"];
  by: Colouring;
  colours: Coloured | null;
  onChange(by: Colouring): void;
  children: ComponentChildren;
}

/** What the tokens are coloured by, and what the colours mean. */
function Colours({ store, by, colours, onChange, children }: ColoursProps) {
  const names = store.directions.value.map(({ name }) => name);
  const value = by.by === "projection" ? `on ${by.direction}` : by.by;
  const none = colours && ![...colours.values.values()].flat().some((x) => x !== null);
  return (
    <div class="sl-bar sl-colours">
      <label class="sl-pickone">
        colour tokens by
        <select
          value={value}
          onChange={({ currentTarget: { value: chosen } }) =>
            onChange(
              chosen === "none" || chosen === "change"
                ? { by: chosen }
                : { by: "projection", direction: chosen.slice(3) },
            )
          }
        >
          <option value="none">nothing</option>
          <option value="change">change of log-probability</option>
          {names.map((name) => (
            <option key={name} value={`on ${name}`}>
              {`projection on ${name}`}
            </option>
          ))}
        </select>
      </label>
      {children}
      {colours && !none && (
        <div class="sl-colours-key">
          <Legend scale={colours.scale} />
          <span class="sl-soft">
            <u class="sl-over">above</u> and <u class="sl-under">below</u> 0
          </span>
        </div>
      )}
      {none && by.by === "change" && details(store) && (
        <p class="sl-soft">Nothing is steered, so no probability has changed.</p>
      )}
    </div>
  );
}

const details = (store: TabProps["store"]) => store.stream.panes.value.some(({ id }) => store.details.of(id));

/** Which token the card is about, and for how long. A token with the focus keeps it. */
function useCard({ store, open, show }: TabProps) {
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const leaving = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const card = useUnique();
  const put = (next: Pointed | null) => {
    clearTimeout(leaving.current);
    setPointed(next);
  };
  const leave = () => {
    clearTimeout(leaving.current);
    leaving.current = setTimeout(() => setPointed(null), LINGER_MS);
  };
  useEffect(() => () => clearTimeout(leaving.current), []);
  const { ready } = store.details;
  useEffect(() => put(null), [open, ready]); // what it said is no longer so
  useEffect(() => {
    if (!pointed) return;
    const end = new AbortController();
    const away = (event: Event) => {
      if (event.type === "keydown") {
        if ((event as KeyboardEvent).key === "Escape") put(null);
      } else if ((event.target as Element).id === card) return;
      // to go to a token may be what scrolled: the card moves along
      else setPointed((now) => (now?.element.matches(":focus") ? { ...now } : null));
    };
    for (const event of ["scroll", "keydown"])
      window.addEventListener(event, away, { capture: true, passive: true, signal: end.signal });
    return () => end.abort();
  }, [pointed]);
  const walker = (pane: string) => ({
    card,
    point: (token: number | null, element: HTMLElement | null, byKey: boolean) => {
      if (token === null || !element) {
        if (byKey) put(null);
        else leave();
      } else if (store.details.ready) {
        store.details.want(pane);
        put({ pane, token, element });
      }
    },
    choose: (token: number) => {
      put(null);
      store.details.at.value = { pane, token };
      show("lens");
    },
  });
  return {
    pointed,
    walker,
    card,
    hover: (over: boolean) => (over ? clearTimeout(leaving.current) : leave()),
  };
}
