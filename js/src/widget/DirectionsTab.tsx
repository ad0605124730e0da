/** What each direction is and says, how directions stand to each other, and how a search's map looks over the layers. */

import { useState } from "preact/hooks";
import type {
  DirectionInfo,
  DirectionsAnswer,
  MapInfo,
  MapQuestion,
  NearestQuestion,
  NearToken,
  OwnCell,
} from "../protocol";
import { Bars } from "./charts/Bars";
import { Heatmap } from "./charts/Heatmap";
import { Failed } from "./Failed";
import { minus } from "./numbers";
import { Segmented } from "./Segmented";
import type { Store } from "./store";
import type { TabProps } from "./tablist";
import { spelled } from "./template";
import { useAction } from "./useAction";
import { useAsk } from "./useAsk";
import { Working } from "./Working";

const ALIKE = { kind: "diverging", min: -1, max: 1, title: "cosine", format: short } as const;

export function DirectionsTab({ store, open }: TabProps) {
  const { revision } = store.state.value;
  const { map } = store.info.value;
  const { asked, answer } = useAsk(store, open ? { kind: "directions", revision, map } : null);
  const making = useAction<MapQuestion>(store);
  const [chosen, setChosen] = useState("");
  if (!answer)
    return (
      <>
        <Failed error={asked?.error.value} />
        {!asked?.error.value && <p class="sl-empty">What is known of the directions appears here.</p>}
      </>
    );
  const { names } = answer;
  const row = store.state.value.steering[store.selected.value]?.direction ?? "";
  const name = [chosen, row, names[0] ?? ""].find((one) => names.includes(one)) ?? "";
  const direction = store.directions.value.find((one) => one.name === name);
  const own = answer.own[names.indexOf(name)] ?? null;
  return (
    <div class="sl-atlas">
      <Failed error={asked?.error.value} />
      {names.length > 1 && <Alike answer={answer} width={store.info.value.d_model} choose={setChosen} />}
      {direction && (
        <section aria-label={`About ${name}`}>
          <div class="sl-bar">
            <h4 class="sl-label">
              {names.length > 1 ? (
                <label>
                  About{" "}
                  <select
                    class="sl-select"
                    value={name}
                    onChange={(event) => setChosen(event.currentTarget.value)}
                  >
                    {names.map((one) => (
                      <option key={one} value={one}>
                        {one}
                      </option>
                    ))}
                  </select>
                </label>
              ) : (
                <>
                  About <span class="sl-of">{name}</span>
                </>
              )}
            </h4>
          </div>
          <dl class="sl-facts-list">
            {answer.facts[names.indexOf(name)]?.map((fact) => (
              <div key={fact.name}>
                <dt>{fact.name}</dt>
                <dd>{fact.value}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
      {direction && <Nearest key={direction.fingerprint} store={store} open={open} direction={direction} />}
      <section aria-label="Over the layers">
        <h4 class="sl-label">Over the layers</h4>
        {answer.map ? (
          <Layers key={`${answer.map.id} ${own?.position}`} {...{ store, open, own }} map={answer.map} />
        ) : (
          <p class="sl-adding">
            <span class="sl-empty">
              A search leaves a direction for every layer; none was made in this lab yet.
            </span>
            <button
              type="button"
              class="sl-button"
              title="The difference in means of 64 harmful and 64 harmless prompts, at every layer"
              onClick={() => making.act({ kind: "bundled-map" })}
            >
              Map the bundled prompts
            </button>
          </p>
        )}
        <Working asked={making.asked} what="Mapping" />
        <Failed error={making.asked?.error.value} />
      </section>
    </div>
  );
}

interface AlikeProps {
  answer: DirectionsAnswer;
  width: number;
  choose(name: string): void;
}

function Alike({ answer, width, choose }: AlikeProps) {
  const { names, cosines } = answer;
  if (!cosines.length) return <p class="sl-empty">Directions of different widths have no cosine.</p>;
  return (
    <section aria-label="Cosine between directions">
      <h4 class="sl-label">Cosine between directions</h4>
      <Heatmap
        label="Cosine between directions"
        rows={{ title: "direction", labels: names }}
        columns={{ title: "direction", labels: names }}
        cell={(i, j) => ({ value: cosines[i]?.[j] ?? null, text: short(cosines[i]?.[j] ?? 0) })}
        scale={ALIKE}
        detail={(i, j) => `${names[i]}, ${names[j]}: cosine ${short(cosines[i]?.[j] ?? 0)}`}
        onChoose={(i) => choose(names[i] ?? "")}
        cellWidth={56}
        labelWidth={132}
      />
      <p class="sl-hint">{`Two random directions of this width lie within ±${(2 / Math.sqrt(width)).toFixed(2)} of 0, nineteen times in twenty.`}</p>
    </section>
  );
}

interface NearestProps {
  store: Store;
  open: boolean;
  direction: DirectionInfo;
}

const WAYS: { value: NearestQuestion["by"]; title: string }[] = [
  { value: "unembedding", title: "Cosine with the rows by which the model writes tokens" },
  { value: "embedding", title: "Cosine with the rows by which the model reads tokens" },
  { value: "head", title: "Logits of the final norm and the head, as the lens shows them" },
];

function Nearest({ store, open, direction }: NearestProps) {
  const [by, setBy] = useState<NearestQuestion["by"]>("unembedding");
  const { name, fingerprint } = direction;
  const { asked, answer } = useAsk(
    store,
    open ? { kind: "nearest", direction: name, fingerprint, epoch: store.info.value.epoch, by } : null,
  );
  const failed = asked?.error.value;
  return (
    <section aria-label={`Tokens nearest to ${name}`}>
      <div class="sl-bar">
        <h4 class="sl-label">Nearest tokens</h4>
        <Segmented label="Nearest by" options={WAYS} value={by} onChange={(way) => setBy(way)} />
      </div>
      <Failed error={failed} />
      {answer && !failed && (
        <>
          <div class="sl-near" data-stale={asked?.status.value === "going"}>
            <Tokens title={`along ${name}`} tokens={answer.along} />
            <Tokens title={`against ${name}`} tokens={answer.against} />
          </div>
          <p class="sl-hint">{`${answer.says}.`}</p>
        </>
      )}
      {!answer && !failed && <p class="sl-empty">They are looked for …</p>}
    </section>
  );
}

function Tokens({ title, tokens }: { title: string; tokens: readonly NearToken[] }) {
  const most = Math.max(...tokens.map((token) => token.value ?? 0), 1e-9);
  return (
    <div>
      <h5>{title}</h5>
      <ol>
        {tokens.map((token, i) => (
          <li key={i} style={{ "--share": Math.max(0, (token.value ?? 0) / most) }}>
            <span class="sl-near-text">{spelled(token.text)}</span>
            <span class="sl-near-value">{(token.value ?? 0).toFixed(2)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

interface LayersProps {
  store: Store;
  open: boolean;
  map: MapInfo;
  /** The cell that is the direction which the tab is about, if one is. */
  own: OwnCell | null;
}

/** The map at one position: norms, and how alike the layers are. */
function Layers({ store, open, map, own }: LayersProps) {
  const { positions } = map;
  const [place, setPlace] = useState(own ? positions.indexOf(own.position) : positions.length - 1);
  const at = Math.min(place, positions.length - 1);
  const position = positions[at] ?? -1;
  const { asked, answer } = useAsk(store, open ? { kind: "map-cosines", map: map.id, position } : null);
  const layers = (map.norms[at] ?? []).map((_, layer) => String(layer));
  const value = (i: number, j: number) => answer?.values[i]?.[j] ?? null;
  return (
    <>
      <div class="sl-bar">
        <p>{`${map.name}, a direction for every layer of ${map.point}`}</p>
        {positions.length > 1 && (
          <label class="sl-pickone">
            position
            <select value={at} onChange={(event) => setPlace(Number(event.currentTarget.value))}>
              {positions.map((one, i) => (
                <option key={one} value={i}>
                  {one === "response" ? "the whole answer" : minus(one)}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      <div class="sl-layers">
        <Bars
          label="Norm of the direction and of the stream, by layer"
          front={{ title: "|v|", values: map.norms[at] ?? [] }}
          back={{ title: "the stream’s norm", values: map.residual_norms[at] ?? [] }}
          marked={own?.position === position ? own.layer : undefined}
        />
        <Failed error={asked?.error.value} />
        {answer && (
          <Heatmap
            label={`Cosine between the layers’ directions at position ${minus(position)}`}
            rows={{ title: "layer", labels: layers }}
            columns={{ title: "layer", labels: layers }}
            cell={(i, j) => ({
              value: value(i, j),
              ...(value(i, j) === null ? { reason: "no direction" } : {}),
            })}
            scale={ALIKE}
            detail={(i, j) => {
              const found = value(i, j);
              return `layers ${i} and ${j}: ${found === null ? "no direction at one of them" : `cosine ${short(found)}`}`;
            }}
            rejected="no direction there"
            cellWidth={14}
            labelWidth={78}
          />
        )}
      </div>
    </>
  );
}

function short(x: number): string {
  return minus(x.toFixed(2));
}
