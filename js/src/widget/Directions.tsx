/** The directions, a row each in the order in which they act, and ways to get more. */
import { Adding } from "./Adding";
import { useCosts, useRested } from "./cost";
import { DirectionRow } from "./DirectionRow";
import { Failed } from "./Failed";
import { Finder } from "./Find";
import type { Store } from "./store";

export function Directions({ store }: { store: Store }) {
  const { steering: rows, beyond, conflicts } = store.state.value;
  const rested = useRested(store);
  const costs = useCosts(store, rested);
  return (
    <section class="sl-section" aria-label="Directions">
      <h3 class="sl-label">Directions</h3>
      {rows.length === 0 && (
        <p class="sl-empty">
          No direction is in use. Add, load or find one; in a cell:{" "}
          <code>lab.find_direction(harmful, harmless)</code>
        </p>
      )}
      <div class="sl-rows">
        {rows.map((row, index) => (
          <DirectionRow
            key={index}
            {...{ store, row, index, rested }}
            count={rows.length}
            kl={costs.kl[index]}
            budget={costs.budget}
            stale={costs.stale}
          />
        ))}
      </div>
      <Failed error={costs.error} />
      <Adding store={store} />
      <Finder store={store} />
      {beyond.length > 0 && (
        <p class="sl-beyond">
          and from Python:{" "}
          {beyond.map((step) => (
            <code key={step}>{step}</code>
          ))}
        </p>
      )}
      {/* always there, so that a screen reader hears what comes into it */}
      <div class="sl-conflicts" role="status">
        {conflicts.map((conflict) => (
          <p key={conflict}>
            <strong>This recipe may not do what you mean:</strong> {conflict}.
          </p>
        ))}
      </div>
    </section>
  );
}
