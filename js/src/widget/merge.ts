/** Puts together what was changed here and what was changed elsewhere since the same state; of what both changed, theirs stands. */
import type { DirectionInfo, PanelState, SteeringState } from "../protocol";

/** A state, with the vectors that its names stood for. */
export interface Known {
  state: PanelState;
  directions: readonly DirectionInfo[];
}

const SET = ["prompt", "max_new_tokens", "temperature", "seed", "control"] as const;

export const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/** base: what both began with. mine: in the words of `base`. */
export function merged(base: Known, mine: PanelState, theirs: Known): PanelState {
  return {
    ...together(base.state, mine, theirs.state, SET),
    steering: rowsTogether(
      keyed(base.state.steering, base),
      keyed(mine.steering, base),
      keyed(theirs.state.steering, theirs),
    ),
  };
}

function together<T>(base: T, mine: T, theirs: T, fields: readonly (keyof T)[]): T {
  const kept = fields.filter((name) => same(theirs[name], base[name]));
  return { ...theirs, ...Object.fromEntries(kept.map((name) => [name, mine[name]])) };
}

type Keyed = Map<string, SteeringState>;

/** Rows by their vectors: a name may change, or mean another vector. */
function keyed(rows: readonly SteeringState[], { directions }: Known): Keyed {
  const vectors = new Map(directions.map(({ name, fingerprint }) => [name, fingerprint]));
  const found: Keyed = new Map();
  for (const row of rows) {
    const vector = vectors.get(row.direction) || row.direction;
    let n = 1;
    while (found.has(`${vector} ${n}`)) n++;
    found.set(`${vector} ${n}`, row);
  }
  return found;
}

/** Rows may be added, taken away and moved; where both sides take away or move, theirs stand. */
function rowsTogether(base: Keyed, mine: Keyed, theirs: Keyed): SteeringState[] {
  const both = (key: string): SteeringState[] => {
    const [old, my, their] = [base, mine, theirs].map((rows) => rows.get(key));
    const row = old && my && their ? rowTogether(old, my, their) : (their ?? my);
    return row ? [row] : [];
  };
  const keys = [...theirs.keys()];
  if (same([...mine.keys()], [...base.keys()])) return keys.flatMap(both);
  const added = keys.filter((key) => !base.has(key));
  if (!same(keys, [...base.keys(), ...added])) return [...theirs.values()];
  return [...mine.keys(), ...added.filter((key) => !mine.has(key))].flatMap(both);
}

function rowTogether(base: SteeringState, mine: SteeringState, theirs: SteeringState): SteeringState {
  const number = ({ mode, coefficient }: SteeringState) => [mode, coefficient];
  // a number means what its mode says
  if (mine.mode !== theirs.mode && !same(number(theirs), number(base))) return theirs;
  return together(base, mine, theirs, Object.keys(base) as (keyof SteeringState)[]);
}
