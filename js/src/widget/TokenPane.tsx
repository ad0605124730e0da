/** One text: its tokens, and under them how it ended. */
import { useEffect, useRef } from "preact/hooks";
import { type Drawing, draw } from "./drawing";
import type { TokenLook } from "./look";
import type { Pane } from "./stream";
import { useVerdict } from "./Verdict";
import { type Walk, walk } from "./walk";

const EMPTY: Record<string, string> = {
  baseline: "The model’s own answer appears here.",
  steered: "Move a slider: the steered answer appears here.",
  control: "What a random direction of the same norm does appears here.",
};
const TITLES: Record<string, string> = { control: "Random control" };

interface Props {
  pane: Pane;
  refusals: readonly string[];
  look: TokenLook;
  /** Told of the token that is pointed at. */
  walker: Walk;
  /** The id of what says how its tokens are walked. */
  hint: string;
}

export function TokenPane({ pane, refusals, look, walker, hint }: Props) {
  const text = useRef<HTMLDivElement>(null);
  const drawing = useRef<Drawing | null>(null);
  const newest = useRef(walker);
  newest.current = walker;
  const title = TITLES[pane.id] ?? pane.id.charAt(0).toUpperCase() + pane.id.slice(1);
  const phase = pane.phase.value;
  useEffect(() => {
    if (!text.current) return;
    const drawn = draw(pane, text.current, look);
    const stop = walk(text.current, {
      card: walker.card,
      point: (...what) => newest.current.point(...what),
      choose: (token) => newest.current.choose(token),
    });
    drawing.current = drawn;
    return () => {
      drawn.stop();
      stop();
    };
  }, [pane]);
  useEffect(() => drawing.current?.dress(look), [look]);
  return (
    <section
      class="sl-pane"
      data-pane={pane.id}
      data-phase={phase}
      aria-label={title}
      aria-busy={phase !== "resting"}
    >
      <h4>{title}</h4>
      <div class="sl-scroll" tabIndex={0} role="region" aria-label={`${title} text`} aria-describedby={hint}>
        {pane.length.value === 0 && phase === "resting" && <p class="sl-empty">{EMPTY[pane.id]}</p>}
        {phase === "resting" && <NoAnswer fault={pane.end.value.fault} />}
        <div ref={text} class="sl-text" dir="auto" />
      </div>
      <Foot pane={pane} refusals={refusals} />
    </section>
  );
}

/** Where a text is not the model's answer, why, and what to do. */
export function NoAnswer({ fault }: { fault: string }) {
  return fault ? (
    <p class="sl-empty">{`No answer: ${fault}. Steer less, or load the model in float32 or bfloat16.`}</p>
  ) : null;
}

function Foot({ pane, refusals }: { pane: Pane; refusals: readonly string[] }) {
  const { finish, applied, tokens_per_second: rate, verdict, fault, kl, cross_entropy: ce } = pane.end.value;
  const n = pane.length.value;
  const count = `${n} ${n === 1 ? "token" : "tokens"}`;
  const ended = {
    stop: "ended by itself",
    length: `cut at ${count}`,
    cancelled: `stopped at ${count}`,
  };
  const running = pane.phase.value !== "resting";
  const { button, rule } = useVerdict(running ? null : verdict, refusals);
  const current = pane.phase.value !== "pending"; // else the figures are of the text that is to be written over
  // a recipe that touches no pass by the second token touches none
  const untouched = !applied && pane.id !== "baseline" && (finish !== null || n > 1);
  return (
    <div class="sl-foot">
      <p class="sl-facts">
        {current && applied && (
          <span
            data-warn={applied.steps < applied.of}
          >{`applied on ${applied.steps} of ${applied.of} steps`}</span>
        )}
        {current && untouched && <span>not steered</span>}
        {current && rate !== null && <span>{`${rate.toFixed(rate < 9.95 ? 1 : 0)} tok/s`}</span>}
      </p>
      <p class="sl-facts">
        {button}
        {!running && ce !== null && (
          <span title="Cross-entropy: −log p of a token of the baseline’s text under this recipe, on average, in nats">{`CE ${small(ce)}`}</span>
        )}
        {!running && kl !== null && (
          <span title="KL(baseline ‖ this) of the first token’s distribution, in nats">{`KL ${small(kl)}`}</span>
        )}
        {current && (running || finish || fault || n > 0) && (
          <span>
            {running ? `${count} so far` : fault ? "no answer" : finish ? ended[finish] : "cut short"}
          </span>
        )}
      </p>
      {rule}
    </div>
  );
}

/** A small number with two digits that say something. */
function small(x: number): string {
  if (x !== 0 && Math.abs(x) < 0.005) return "< 0.01";
  return x.toFixed(x < 10 ? 2 : 1);
}
