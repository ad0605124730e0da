/** What a search found: the map of positions x layers, its winner, and why others fell. A click on a cell uses that candidate. */

import type { FindAnswer, MapCell, Thresholds, UseCandidate } from "../protocol";
import { Note } from "./Banner";
import { digits, type Scale, scaleOf } from "./charts/colour";
import { Heatmap } from "./charts/Heatmap";
import { Failed } from "./Failed";
import { minus } from "./numbers";
import { acts } from "./rows";
import type { Store } from "./store";
import { useAction } from "./useAction";

interface Props {
  store: Store;
  answer: FindAnswer;
  onRelax(thresholds: Thresholds): void;
}

export function FindMap({ store, answer, onRelax }: Props) {
  const { cells, scored, best, name, relax, trouble } = answer;
  const using = useAction<UseCandidate>(store);
  const positions = [...new Set(cells.map(({ position }) => position))];
  const layers = [...new Set(cells.map(({ layer }) => layer))].sort((a, b) => a - b);
  const byPlace = new Map(cells.map((one) => [`${one.position} ${one.layer}`, one]));
  const at = (row: number, column: number) => byPlace.get(`${positions[row]} ${layers[column]}`);
  const value = (one: MapCell | undefined) => (scored ? one?.bypass : one?.apart) ?? null;
  const scale = scored
    ? scaleOf(cells.map(value), "bypass: refusal score, ablated", "diverging")
    : scaleOf([0, ...cells.map(value)], "sides apart, × ‖resid‖");
  const place = (one: { position: MapCell["position"]; layer: number } | null | undefined) =>
    one ? ([positions.indexOf(one.position), layers.indexOf(one.layer)] as const) : undefined;
  const use = ({ position, layer }: Pick<UseCandidate, "position" | "layer">, keep = false) =>
    using.act({ kind: "find-use", name, map: answer.map, position, layer, keep });
  const last = using.asked?.question;
  const now = using.asked?.answer.value?.direction;
  const inUse = store.state.value.steering.some((row) => row.direction === now && acts(row));
  const written = layers.length <= 16;
  return (
    <div class="sl-found">
      {trouble && (
        <>
          <Note kind="error" what={trouble.what} hint={trouble.hint} />
          <div class="sl-form-go">
            {relax.map((limits) => (
              <button
                key={JSON.stringify(limits)}
                type="button"
                class="sl-button"
                onClick={() => onRelax(limits)}
              >
                Find again with KL at most {limits.max_kl}, induce at least {limits.min_induce}
              </button>
            ))}
          </div>
        </>
      )}
      <Heatmap
        label={`Candidates for ${name} by position and layer`}
        rows={{ title: "position", labels: positions.map(minus) }}
        columns={{ title: "layer", labels: layers.map(String) }}
        scale={scale}
        cell={(row, column) => {
          const one = at(row, column);
          const number = value(one);
          const reason =
            one && (one.rejected || (one.apart === null ? "the two sides do not differ here" : ""));
          return {
            value: number,
            ...(written && number !== null ? { text: digits(scale, number) } : {}),
            ...(reason ? { reason } : {}),
          };
        }}
        detail={(row, column) => say(at(row, column), scored, scale)}
        marked={best ? { place: place(best) ?? [0, 0], words: scored ? "the winner" : "taken" } : undefined}
        rejected={scored ? "rejected" : "no direction"}
        chosen={inUse ? place(last) : undefined}
        onChoose={(row, column) => {
          const one = at(row, column);
          if (one && one.apart !== null) use(one);
        }}
        cellWidth={written ? 41 : 22}
        narrowWidth={34}
        labelWidth={92}
      />
      <Failed error={using.asked?.error.value} />
      <div class="sl-form-go">
        <span role="status">
          {last &&
            inUse &&
            `In use: ${where(last.position)} of layer ${last.layer}.${using.stands ? " Ctrl+Z takes it back." : ""}`}
        </span>
        {last && inUse && now !== name && (
          <button type="button" class="sl-button" onClick={() => use(last, true)}>
            Keep it as {name}
          </button>
        )}
        {!inUse && best && (
          <button type="button" class="sl-button" onClick={() => use(best)}>
            Use it
          </button>
        )}
      </div>
    </div>
  );
}

/** What came of a search, in a line; why there is nothing stands with the map. */
export function FoundWords({ answer }: { answer: FindAnswer }) {
  const { name, best, trouble } = answer;
  if (trouble) return null;
  return (
    <p>
      <strong>{name}</strong> is in the list
      {best && `, from ${where(best.position)} of layer ${best.layer}`}
      {` (${counted(answer)})`}. Choose a cell to steer with its candidate.
    </p>
  );
}

/** Of how many prompts it was made, and by how many others chosen. */
function counted({ prompts: [n, m], chose }: FindAnswer): string {
  if (!chose) return `${n} prompts against ${m}`;
  return `${n} + ${m} prompts made the directions, ${chose[0]} + ${chose[1]} others chose among them`;
}

const where = (position: MapCell["position"]) =>
  position === "response" ? "the answers" : `position ${minus(position)}`;

/** A candidate in a line; a score that was not measured was not needed, once another had ruled the cell out. */
function say(one: MapCell | undefined, scored: boolean, scale: Scale): string {
  if (!one) return "";
  const place = `${where(one.position)}, layer ${one.layer}`;
  if (one.apart === null) return `${place}: ${one.rejected || "the two sides do not differ here"}`;
  if (!scored) return `${place}: ${scale.title} ${digits(scale, one.apart)}`;
  const score = (name: string, x: number | null, words = (y: number) => minus(y.toFixed(2))) =>
    `${name} ${x === null ? "not needed" : words(x)}`;
  // as it stands in the cell
  const bypass = score("bypass", one.bypass, (x) => digits(scale, x));
  const scores = [bypass, score("induce", one.induce), score("KL", one.kl)].join(", ");
  return `${place}: ${one.rejected ? `rejected, ${one.rejected}; ` : ""}${scores}`;
}
