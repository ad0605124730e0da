/** How far an answer is, with a way to call it off. Shows nothing once it has ended. */
import type { Asked, Kind } from "./asks";

export function Working<K extends Kind>({ asked, what }: { asked: Asked<K> | null; what: string }) {
  if (asked?.status.value !== "going") return null;
  const { done, total, text } = asked.progress.value ?? { done: 0, total: 0, text: "" };
  const share = total ? done / total : undefined;
  return (
    <div class="sl-working" role="group" aria-label={what}>
      <progress class="sl-progress" aria-label={what} {...(share === undefined ? {} : { value: share })} />
      <span class="sl-working-text">{text || what}</span>
      {total > 0 && <span class="sl-working-count">{`${done} of ${total}`}</span>}
      <button type="button" class="sl-button" onClick={() => asked.cancel()}>
        Cancel
      </button>
    </div>
  );
}
