/** Which model this is, and what it is doing. */
import type { Store } from "./store";

const WORDS = { idle: "ready", done: "ready", running: "generating", stopped: "stopped", error: "error" };

export function Header({ store }: { store: Store }) {
  const { name, backend, device, n_layers, d_model, dtype } = store.info.value;
  const connection = store.connection.value;
  const status = store.stream.status.value;
  const word =
    connection === "gone"
      ? "kernel gone"
      : connection === "waiting"
        ? "waiting for the kernel"
        : WORDS[status];
  const look = connection === "live" ? status : connection;
  return (
    <div class="sl-header">
      <svg class="sl-logo" viewBox="0 0 24 24" aria-hidden="true">
        <path d="M5.6 18.4a9 9 0 1 1 12.8 0" />
        <path class="sl-hand" d="m12 12 4-4.5" />
        <circle cx="12" cy="12" r="2.2" />
      </svg>
      <h3>Steering lab</h3>
      <ul class="sl-model" aria-label="Model">
        <li class="sl-strong">{name}</li>
        <li>{`${n_layers} layers × ${d_model}`}</li>
        <li>{backend}</li>
        <li title={dtype}>{device}</li>
      </ul>
      <span class="sl-status" role="status" data-look={look}>
        <span class="sl-dot" aria-hidden="true" />
        {word}
      </span>
    </div>
  );
}
