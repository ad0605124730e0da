/**
 * A text that is being written. Tokens are put in by hand once a frame, never diffed, and only ever as text nodes.
 *
 * A new run writes over the old text: what is left of it stays, dimmed, until the new text has passed it, so that the pane
 * does not collapse while a slider moves.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Verdict } from "../protocol";
import { dress, PLAIN, shownText, type TokenLook } from "./look";
import type { Pane, Sink } from "./stream";
import { paintNever, paintSoon } from "./turns";
import { useUnique } from "./unique";
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
      <h5>{title}</h5>
      <div class="sl-scroll" tabIndex={0} role="region" aria-label={`${title} text`} aria-describedby={hint}>
        {pane.length.value === 0 && phase === "resting" && <p class="sl-empty">{EMPTY[pane.id]}</p>}
        <div ref={text} class="sl-text" dir="auto" />
      </div>
      <Foot pane={pane} refusals={refusals} />
    </section>
  );
}

function Foot({ pane, refusals }: { pane: Pane; refusals: readonly string[] }) {
  const [open, setOpen] = useState(false);
  const id = useUnique();
  const { finish, applied, tokens_per_second: rate, verdict, kl } = pane.end.value;
  const n = pane.length.value;
  const ended = {
    stop: "ended by itself",
    length: `cut at ${n} tokens`,
    cancelled: `stopped at ${n} tokens`,
  };
  const running = pane.phase.value !== "resting";
  return (
    <div class="sl-foot">
      <p class="sl-facts">
        {!running && verdict && (
          <button
            type="button"
            class="sl-verdict"
            data-refuses={verdict.refuses}
            title="By which rule?"
            aria-expanded={open}
            aria-controls={id}
            onClick={() => setOpen(!open)}
          >
            <span>{verdict.refuses ? "refuses" : "answers"}</span>
          </button>
        )}
        {!running && kl !== null && (
          <span title="KL(baseline ‖ this) of the first token’s distribution, in nats">{`KL ${small(kl)}`}</span>
        )}
        {!running && applied && (
          <span
            data-warn={applied.steps < applied.of}
          >{`applied on ${applied.steps} of ${applied.of} steps`}</span>
        )}
        {!running && !applied && finish && pane.id !== "baseline" && <span>not steered</span>}
        <span>{running ? `${n} tokens` : finish ? ended[finish] : n ? "cut short" : " "}</span>
        {!running && rate !== null && <span>{`${Math.round(rate)} tok/s`}</span>}
      </p>
      <div id={id} class="sl-rule" hidden={!open || !verdict || running}>
        {open && verdict && <Rule verdict={verdict} refusals={refusals} />}
      </div>
    </div>
  );
}

/** A verdict is no more than its rule: here it is. */
function Rule({ verdict, refusals }: { verdict: Verdict; refusals: readonly string[] }) {
  return (
    <>
      <p>
        {verdict.phrase === null ? (
          "None of these phrases stands in the text, so it counts as an answer. "
        ) : (
          <>
            It holds <q>{verdict.phrase}</q>, so it counts as a refusal.{" "}
          </>
        )}
        Phrases err both ways: read the text, too.
      </p>
      <ul>
        {refusals.map((phrase) => (
          <li key={phrase} data-hit={phrase === verdict.phrase}>
            {phrase}
          </li>
        ))}
      </ul>
    </>
  );
}

/** A small number with two digits that say something. */
function small(x: number): string {
  if (x !== 0 && Math.abs(x) < 0.005) return "< 0.01";
  return x.toFixed(x < 10 ? 2 : 1);
}

interface Drawing {
  stop(): void;
  dress(look: TokenLook): void;
}

const OLD = 300; // tokens of the old text that stay behind the new one until it covers them

/** Keeps `text` equal to the pane: first the spans of the new text, then those of the old one that are still there. */
function draw(pane: Pane, text: HTMLElement, first: TokenLook): Drawing {
  let look = first;
  const scroller = text.parentElement as HTMLElement;
  const spans = text.children;
  let queue: (() => void)[] = [];
  let fresh = 0; // how many of the spans belong to the newest run
  let dressed = false; // whether any span may have a look
  const paint = () => {
    const stick = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 24;
    for (const step of queue) step();
    queue = [];
    if (pane.phase.peek() === "resting" && (dressed || look !== PLAIN)) {
      dress(spans, pane.words, look);
      dressed = look !== PLAIN;
    }
    if (stick) scroller.scrollTop = scroller.scrollHeight;
  };
  const later = (step: () => void) => {
    queue.push(step);
    paintSoon(paint);
  };
  const made = (token: string) => {
    const span = document.createElement("span");
    span.textContent = shownText(token, look, -1);
    return span;
  };
  const last = (yes: boolean) => spans[fresh - 1]?.classList.toggle("sl-last", yes);
  const cut = (n: number) => {
    for (let extra = spans.length - n; extra > 0; extra--) text.lastElementChild?.remove();
  };
  const old = (yes: boolean) => {
    for (const child of spans) {
      child.classList.toggle("sl-old", yes);
      if (yes) child.setAttribute("aria-hidden", "true");
      else child.removeAttribute("aria-hidden");
    }
  };
  const sink: Sink = {
    replace: (tokens) => {
      const whole = [...tokens];
      later(() => {
        text.replaceChildren(...whole.map(made));
        fresh = whole.length;
      });
    },
    add: (tokens) =>
      later(() => {
        last(false);
        // all that stands behind a changed token is laid out again
        cut(fresh + tokens.length + OLD);
        for (const token of tokens) {
          const before = spans[fresh++];
          if (before) before.replaceWith(made(token));
          else text.append(made(token));
        }
        last(true);
      }),
    age: () =>
      later(() => {
        last(false);
        cut(OLD);
        fresh = 0;
        old(true);
      }),
    settle: (tokens) => {
      const whole = [...tokens];
      later(() => {
        last(false);
        // a run that brought nothing leaves the text before it, of which an interrupted run may have overwritten a part
        if (fresh === 0) text.replaceChildren(...whole.map(made));
        cut(whole.length);
        if (fresh !== whole.length) old(false);
        fresh = whole.length;
      });
    },
  };
  const stop = pane.watch(sink);
  return {
    stop: () => {
      stop();
      paintNever(paint);
    },
    dress: (now) => {
      look = now;
      later(() => {}); // a text that stands is dressed with every frame that changes it
    },
  };
}
