/**
 * A text that is being written. Tokens are put in by hand once a frame, never diffed, and only ever as text nodes.
 *
 * A new run writes over the old text: what is left of it stays, dimmed, until the new text has passed it, so that the pane
 * does not collapse while a slider moves.
 *
 * A token has a span of its own, for its look and to be pointed at, but not while the text is written: nobody can point at it
 * then, and with every token that comes the browser would lay out the whole paragraph anew, span by span. So what a run writes
 * stands together (`data-joined` says so), a part for each line, until the run is over; in a long text until its tokens get a
 * look, or somebody comes near.
 */
import { dress, PLAIN, shownText, type TokenLook } from "./look";
import type { Pane, Sink } from "./stream";
import { type Painter, paintNever, paintSoon } from "./turns";

export interface Drawing {
  stop(): void;
  dress(look: TokenLook): void;
}

const OLD = 300; // tokens of the old text that stay behind the new one until it covers them
const LONG = 400; // tokens: three panes with a span for each are laid out within a frame
const PAD = 8; // pixels below the line that is written
const NEAR = ["pointermove", "pointerdown", "focusin", "keydown"]; // before `walk` hears of it

/** Keeps `text` equal to the pane: spans of tokens, then the lines that a run has written, then what is left of the old text. */
export function draw(pane: Pane, text: HTMLElement, first: TokenLook): Drawing {
  let look = first;
  const scroller = text.parentElement as HTMLElement;
  let queue: (() => void)[] = [];
  let begun = false; // whether there is anything of the new text
  let spans = 0; // how many of its tokens have a span, the first ones
  let line: Text | null = null; // where the others go; none where there are no others
  let old: string[] = []; // the tokens that are left of the old text
  const behind = document.createElement("span"); // which has them
  behind.className = "sl-old";
  behind.setAttribute("aria-hidden", "true");
  let follows = true; // whether the view follows what is written
  let put = 0; // where it was put last
  let away = false; // whether it is hidden, or was when the text was painted last
  let held = false; // whether marks keep the text joined
  let dressed = false; // whether anything may have a look
  const painter: Painter = {
    before: () => {
      const { scrollHeight, clientHeight, scrollTop } = scroller;
      const was = away;
      away = !clientHeight;
      if (away) return;
      if (scrollHeight <= clientHeight) follows = true;
      // where somebody has scrolled
      else if (!was && scrollTop !== put) follows = Math.abs(foot() - scrollTop) < 24;
    },
    change: () => {
      dressed ||= look !== PLAIN;
      for (const step of queue) step();
      queue = [];
      behind.textContent = shown(old);
      if (old.length) text.append(behind);
      else behind.remove();
      if (dressed || pane.words.length <= LONG) rest();
      mark();
    },
    after: () => {
      const now = foot(); // lays the page out
      if (away) return;
      // an old text on which nothing is written yet stays as it stands
      if (follows && (line || !old.length)) scroller.scrollTop = now;
      put = scroller.scrollTop;
    },
  };
  /** How far the pane is scrolled to show what is written last: to the end, or to where the old text goes on. */
  const foot = () => {
    const { scrollHeight, clientHeight, scrollTop } = scroller;
    const last = old.length ? line?.parentElement?.getBoundingClientRect() : undefined;
    const end = last ? scrollTop + last.bottom - scroller.getBoundingClientRect().top + PAD : scrollHeight;
    return Math.max(0, Math.min(end, scrollHeight) - clientHeight);
  };
  const later = (step: () => void) => {
    queue.push(step);
    paintSoon(painter);
  };
  const shown = (tokens: readonly string[]) => tokens.map((token) => shownText(token, look, -1)).join("");
  const resting = () => pane.phase.peek() === "resting";
  const mark = () => text.toggleAttribute("data-joined", line !== null || old.length > 0);
  const clear = () => {
    // the next key is still the panel's
    if (text.contains(document.activeElement)) scroller.focus({ preventScroll: true });
    text.replaceChildren();
    spans = 0;
    line = null;
    held = false;
    old = [];
  };
  const part = (words: string) => {
    const span = document.createElement("span");
    span.append(words);
    return span;
  };
  /** A span for each of the tokens that has none. */
  const spread = (tokens: readonly string[]) => {
    while (text.children.length > spans) text.lastElementChild?.remove();
    text.append(...tokens.slice(spans).map((token) => part(shown([token]))));
    spans = tokens.length;
    line = null;
  };
  /** Go on with the new text, over the old one. */
  const write = (tokens: readonly string[]) => {
    begun = true;
    old = old.slice(tokens.length);
    for (const token of tokens) {
      line ??= open();
      line.appendData(shown([token]));
      if (line.data.endsWith("\n")) line = open();
    }
    line ??= open();
  };
  /** Begin a line. The one before is laid out on its own from now on, where it began as one. */
  const open = () => {
    behind.remove();
    const before = text.lastElementChild;
    if (before && line && startsLine(before)) before.className = "sl-line";
    else before?.classList.remove("sl-last");
    const begins = part("");
    begins.className = "sl-last";
    text.append(begins);
    return begins.firstChild as Text;
  };
  const whole = (tokens: readonly string[]) => {
    clear();
    begun = true;
    if (resting() && tokens.length <= LONG) spread(tokens);
    else write(tokens);
  };
  /** Give every token of a text that rests a span of its own, and its look. */
  const rest = () => {
    if (!resting()) return;
    held = line !== null && marked(text);
    if (held) return;
    if (line) spread(pane.words);
    if (!dressed) return;
    dress(text.children, pane.words, look);
    dressed = look !== PLAIN;
  };
  const near = () => {
    if (!line || queue.length) return;
    rest();
    mark();
  };
  const sink: Sink = {
    replace: (tokens) => {
      const all = [...tokens];
      later(() => whole(all));
    },
    add: (tokens) => later(() => write(tokens)),
    age: () => {
      const words = pane.words.slice(0, OLD);
      later(() => {
        // what an interrupted run has not covered is still behind it
        const left = begun ? [...words, ...old].slice(0, OLD) : old;
        clear();
        old = left;
        begun = false;
      });
    },
    settle: (tokens) => {
      const all = [...tokens];
      later(() => {
        // a run that brought nothing leaves the text before it, of which an interrupted run may have overwritten a part
        if (!begun) whole(all);
        old = [];
      });
    },
  };
  const stop = pane.watch(sink);
  for (const event of NEAR) scroller.addEventListener(event, near, { capture: true });
  const unmarked = () => held && near();
  document.addEventListener("selectionchange", unmarked);
  return {
    stop: () => {
      stop();
      for (const event of NEAR) scroller.removeEventListener(event, near, { capture: true });
      document.removeEventListener("selectionchange", unmarked);
      paintNever(painter);
    },
    dress: (now) => {
      look = now;
      later(() => {}); // a text that stands is dressed with every frame that changes it
    },
  };
}

/** Whether nothing stands in the line before a part. */
function startsLine(part: Element): boolean {
  const before = part.previousElementSibling;
  return !before || (before.textContent ?? "").endsWith("\n");
}

/** Whether somebody marks words in a text: its parts stay what they are. */
function marked(text: Element): boolean {
  const now = getSelection();
  const range = now && !now.isCollapsed ? now.getRangeAt(0) : undefined;
  return Boolean(range?.intersectsNode(text));
}
