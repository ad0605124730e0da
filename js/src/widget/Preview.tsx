/** The texts, side by side, and how they are sampled. */
import { NumberField } from "./NumberField";
import { TokenPane } from "./TokenPane";
import type { TabProps } from "./tablist";

export function Preview({ store }: TabProps) {
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
        <button type="button" class="sl-button sl-stop" disabled={!running} onClick={() => store.stop()}>
          <span class="sl-square" aria-hidden="true" /> Stop
        </button>
      </div>
      <div class="sl-panes">
        {store.stream.panes.value.map((pane) => (
          <TokenPane key={pane.id} pane={pane} refusals={store.info.value.refusals} />
        ))}
      </div>
    </>
  );
}
