/** Why there is no answer, where it failed or was cancelled, and a way to ask again. */
import type { Asked, Kind } from "./asks";
import { Failed } from "./Failed";

interface Props<K extends Kind> {
  asked: Asked<K> | null;
  again(): void;
}

export function Unanswered<K extends Kind>({ asked, again }: Props<K>) {
  const cancelled = asked?.status.value === "cancelled";
  return (
    <div class="sl-unanswered">
      <Failed error={asked?.error.value} />
      <p class="sl-form-go">
        {/* always there, so that a screen reader hears what comes into it */}
        <span role="status">{cancelled && "Cancelled."}</span>
        {(cancelled || asked?.status.value === "failed") && (
          <button type="button" class="sl-button" onClick={again}>
            Ask again
          </button>
        )}
      </p>
    </div>
  );
}
