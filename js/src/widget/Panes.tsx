/** The texts, side by side, and how they are sampled. */
import { NumberField } from "./NumberField";
import type { Store } from "./store";
import { TokenPane } from "./TokenPane";

export function Panes({ store }: { store: Store }) {
  const { max_new_tokens, temperature, seed } = store.state.value;
  const running = store.stream.status.value === "running" && store.connection.value !== "gone";
  return (
    <section class="sl-section" aria-label="Preview">
      <div class="sl-bar">
        <h4 class="sl-label">Preview</h4>
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
        <button type="button" class="sl-button sl-stop" disabled={!running} onClick={() => store.stop()}>
          <span class="sl-square" aria-hidden="true" /> Stop
        </button>
      </div>
      <div class="sl-panes">
        {store.stream.panes.value.map((pane) => (
          <TokenPane key={pane.id} pane={pane} />
        ))}
      </div>
    </section>
  );
}
