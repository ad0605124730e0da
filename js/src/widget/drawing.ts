/**
 * A text that is being written. Tokens are put in by hand once a frame, never diffed, and only ever as text nodes.
 *
 * A new run writes over the old text: what is left of it stays, dimmed, until the new text has passed it, so that the pane
 * does not collapse while a slider moves.
 *
 * A token has a span of its own, for its look and to be pointed at. But with every token that comes the paragraphs around it are
 * laid out again, span by span, and without blocks a text is one paragraph. So of a long text that is written all but the last
 * tokens stand together (`data-joined` says so), in a block as far as a line has ended and else in a span, until they get a
 * look, or somebody comes near.
 */
import { dress, PLAIN, shownText, type TokenLook } from "./look";
import type { Pane, Sink } from "./stream";
import { paintNever, paintSoon } from "./turns";

export interface Drawing {
  stop(): void;
  dress(look: TokenLook): void;
}

const OLD = 300; // tokens of the old text that stay behind the new one until it covers them
const JOINED = 100; // tokens that are joined at once; as many at least have spans of their own
const NEAR = ["pointermove", "pointerdown", "focusin", "keydown"]; // before `walk` hears of it

/** Keeps `text` equal to the pane: first the spans of the new text, then those of the old one that are still there. */
export function draw(pane: Pane, text: HTMLElement, first: TokenLook): Drawing {
  let look = first;
  const scroller = text.parentElement as HTMLElement;
  const parts = text.children; // what is joined, then a span for each token
  let queue: (() => void)[] = [];
  let fresh = 0; // how many of the tokens belong to the newest run
  let joints = 0; // how many of the parts are joined
  let blocks = 0; // and how many of these, the first ones, are blocks
  let held = 0; // how many tokens they hold
  let dressed = false; // whether any span may have a look
  const paint = () => {
    const stick = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 24;
    for (const step of queue) step();
    queue = [];
    if (dressed || look !== PLAIN) rest();
    if (stick) scroller.scrollTop = scroller.scrollHeight;
  };
  const later = (step: () => void) => {
    queue.push(step);
    paintSoon(paint);
  };
  const made = (token: string) => {
    const span = document.createElement("span");
    span.textContent = shownText(token, look, -1);
    dressed ||= look !== PLAIN;
    return span;
  };
  /** Where the span of a token is that has one of its own. */
  const place = (token: number) => token - held + joints;
  const last = (yes: boolean) => parts[place(fresh) - 1]?.classList.toggle("sl-last", yes);
  const cut = (n: number) => {
    for (let extra = parts.length - place(n); extra > 0; extra--) text.lastElementChild?.remove();
  };
  const whole = (tokens: readonly string[]) => {
    text.replaceChildren(...tokens.map(made));
    joints = blocks = held = 0;
    text.removeAttribute("data-joined");
  };
  const old = (yes: boolean) => {
    for (const child of parts) {
      child.classList.toggle("sl-old", yes);
      if (yes) child.setAttribute("aria-hidden", "true");
      else child.removeAttribute("aria-hidden");
    }
  };
  const join = () => {
    const own = fresh - held;
    if (own < 2 * JOINED || touched(text)) return;
    let n = own - JOINED;
    const ends = (i: number) => parts[joints + i]?.textContent?.endsWith("\n");
    while (n && !ends(n - 1)) n--;
    const block = n > 0;
    if (!block) n = own - JOINED;
    const joined = document.createElement(block ? "div" : "span");
    const some = [...parts].slice(block ? blocks : joints, joints + n);
    joined.textContent = some.map((one) => one.textContent).join("");
    some[0]?.before(joined);
    for (const one of some) one.remove();
    held += n;
    joints += n + 1 - some.length;
    if (block) blocks = joints;
    text.setAttribute("data-joined", "");
  };
  /** Give every token of a text that rests a span of its own, and its look. */
  const rest = () => {
    if (pane.phase.peek() !== "resting") return;
    if (joints && !touched(text)) whole(pane.words);
    if (joints || !(dressed || look !== PLAIN)) return;
    dress(parts, pane.words, look);
    dressed = look !== PLAIN;
  };
  const near = () => {
    if (joints && !queue.length) rest();
  };
  const sink: Sink = {
    replace: (tokens) => {
      const all = [...tokens];
      later(() => {
        whole(all);
        fresh = all.length;
      });
    },
    add: (tokens) =>
      later(() => {
        last(false);
        // all that stands behind a changed token is laid out again
        cut(fresh + tokens.length + OLD);
        for (const token of tokens) {
          const before = parts[place(fresh++)];
          if (before) before.replaceWith(made(token));
          else text.append(made(token));
        }
        join();
        last(true);
      }),
    age: () => {
      const shown = pane.words.slice(0, OLD);
      later(() => {
        last(false);
        if (joints) whole(shown);
        cut(OLD);
        fresh = 0;
        old(true);
      });
    },
    settle: (tokens) => {
      const all = [...tokens];
      later(() => {
        last(false);
        // a run that brought nothing leaves the text before it, of which an interrupted run may have overwritten a part
        if (fresh === 0) whole(all);
        cut(all.length);
        if (fresh !== all.length) old(false);
        fresh = all.length;
      });
    },
  };
  const stop = pane.watch(sink);
  for (const event of NEAR) scroller.addEventListener(event, near, { capture: true });
  return {
    stop: () => {
      stop();
      for (const event of NEAR) scroller.removeEventListener(event, near, { capture: true });
      paintNever(paint);
    },
    dress: (now) => {
      look = now;
      later(() => {}); // a text that stands is dressed with every frame that changes it
    },
  };
}

/** Whether somebody has the focus or marks words in a text: its parts stay what they are. */
function touched(text: Element): boolean {
  const marked = getSelection();
  const range = marked && !marked.isCollapsed ? marked.getRangeAt(0) : undefined;
  return text.contains(document.activeElement) || Boolean(range?.intersectsNode(text));
}
