/**
 * What is behind one token, in a card beside it: how likely it was with and without steering, what else might have come, how
 * far the stream lies along each direction. It takes no focus: the token that it describes keeps it.
 */
import { useLayoutEffect, useRef } from "preact/hooks";
import type { TokensAnswer } from "../protocol";
import { Sparkline } from "./charts/Sparkline";
import type { TokenPlace } from "./details";
import { Likely, percent } from "./Likely";
import { signed } from "./scale";
import type { Store } from "./store";
import { spelled } from "./template";

export interface Pointed extends TokenPlace {
  element: HTMLElement;
}

interface Props {
  store: Store;
  id: string;
  pointed: Pointed | null;
  /** The pointer is over the card, or has left it. */
  onHover(over: boolean): void;
}

export function TokenCard({ store, id, pointed, onHover }: Props) {
  const card = useRef<HTMLDivElement>(null);
  const asked = pointed && store.details.question(pointed.pane);
  const answer = asked?.answer.value ?? null;
  const error = asked?.error.value;
  const known = pointed && answer && answer.n_prompt + pointed.token < answer.tokens.length;
  useLayoutEffect(() => {
    const el = card.current;
    if (!el) return;
    // a popover lies above everything, and nothing cuts it off
    if (el.isConnected && "togglePopover" in el) el.togglePopover(pointed !== null);
    if (pointed) place(el, pointed.element);
  }, [pointed, answer, asked?.status.value]);
  return (
    <div
      ref={card}
      id={id}
      class="sl-card"
      role="tooltip"
      popover="manual"
      onPointerEnter={() => onHover(true)}
      onPointerLeave={() => onHover(false)}
    >
      {pointed &&
        (known ? (
          <Facts answer={answer} token={pointed.token} />
        ) : (
          <p class="sl-empty">
            {error
              ? `${error.what} ${error.hint}`
              : answer
                ? `Of a long text, the first ${answer.tokens.length - answer.n_prompt} tokens are looked into.`
                : asked?.status.value === "cancelled"
                  ? "Reading what is behind it was cancelled. Click or Enter: the lens, which reads it again."
                  : "Reading what is behind this token…"}
          </p>
        ))}
    </div>
  );
}

function Facts({ answer, token }: { answer: TokensAnswer; token: number }) {
  const { n_prompt, tokens, baseline, steered, directions } = answer;
  const at = n_prompt + token;
  const name = answer.pane === "control" ? "Random control" : "Steered";
  const sides = [{ title: "Baseline", read: baseline }, ...(steered ? [{ title: name, read: steered }] : [])];
  const [before, now] = [baseline.logprobs[at], steered?.logprobs[at]];
  const both = typeof before === "number" && typeof now === "number";
  return (
    <>
      <p class="sl-card-head">
        <span class="sl-token">{spelled(tokens[at] ?? "")}</span>
        <span class="sl-soft">{`token ${token + 1}`}</span>
        {both && <span class="sl-soft">{`${signed(now - before)} nats by steering`}</span>}
      </p>
      <div class="sl-card-sides">
        {sides.map(({ title, read }) => (
          <Likely
            key={title}
            title={`${title}: ${percent(Math.exp(read.logprobs[at] ?? Number.NEGATIVE_INFINITY))}, or else`}
            tokens={read.others[at] ?? []}
          />
        ))}
      </div>
      {directions.length > 0 && (
        <div class="sl-card-lines">
          {directions.map(({ name: direction, layer }, d) => {
            const [old = [], line] = [baseline.cosines[d]?.[at], steered?.cosines[d]?.[at]];
            const values = [old[layer], line?.[layer]].filter((x) => x !== undefined).map((x) => signed(x));
            return (
              <p key={direction}>
                <span class="sl-card-name">{direction}</span>
                <Sparkline lines={line ? [old, line] : [old]} marked={layer} />
                <span>{values.join(" → ")}</span>
              </p>
            );
          })}
          <p class="sl-soft">
            Projection as a share of the stream’s norm, by layer{steered ? "; dashed: baseline" : ""}. The
            dot: the direction’s own layer.
          </p>
        </div>
      )}
      <p class="sl-soft">Click or Enter: the lens at this token.</p>
    </>
  );
}

/** Below the token where there is room, else above it, and inside of the window. */
function place(card: HTMLElement, token: HTMLElement): void {
  const rect = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = card;
  const left = Math.max(8, Math.min(rect.left, window.innerWidth - width - 8));
  const below = Math.max(8, rect.bottom + 6);
  const top = below + height > window.innerHeight - 8 ? Math.max(8, rect.top - height - 6) : below;
  Object.assign(card.style, { left: `${left}px`, top: `${top}px` });
}
