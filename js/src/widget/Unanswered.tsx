/** Why there is no answer, where it failed or was cancelled, and a way to ask again. */
import type { Asked, Kind } from "./asks";
import { Failed } from "./Failed";

interface Props<K extends Kind> {
  asked: Asked<K> | null;
  again(): void;
}

export function Unanswered<K extends Kind>({ asked, again }: Props<K>) {
  const cancelled = asked?.status.value === "cancelled";
  if (!cancelled && asked?.status.value !== "failed") return null;
  return (
    <div class="sl-unanswered">
      <Failed error={asked.error.value} />
      <p class="sl-form-go">
        {cancelled && <span role="status">Cancelled.</span>}
        <button type="button" class="sl-button" onClick={again}>
          Ask again
        </button>
      </p>
    </div>
  );
}
