/**
 * The tokens of a text as things to point at. A text is one tab stop: Enter goes in, to the token that was looked at last; left
 * and right, up and down, Home and End walk; Enter or a click chooses; Tab goes on.
 */
export interface Walk {
  /** A token is pointed at, or has the focus; null: none any more. */
  point(token: number | null, element: HTMLElement | null, byKey: boolean): void;
  choose(token: number): void;
  /** The id of what describes a token. */
  card: string;
}

const HOVER_MS = 150;

export function walk(text: HTMLElement, tell: Walk): () => void {
  const end = new AbortController();
  const { signal } = end;
  const region = text.parentElement as HTMLElement;
  let last = 0;
  let hover: ReturnType<typeof setTimeout> | undefined;
  const joined = () => text.hasAttribute("data-joined"); // its spans are not its tokens, until it rests
  const indexOf = (target: EventTarget | null): number => {
    if (joined()) return -1;
    const span = (target as Element | null)?.closest?.(".sl-text > span");
    return span && text.contains(span) ? Array.prototype.indexOf.call(text.children, span) : -1;
  };
  const at = (i: number) => text.children[i] as HTMLElement | undefined;
  const step = (i: number, by: 1 | -1): number => {
    let to = i + by;
    while (at(to) && at(to)?.textContent === "") to += by; // a part of a character has nothing to show
    return at(to) ? to : i;
  };
  const go = (i: number) => {
    const span = at(i);
    if (!span) return;
    span.tabIndex = -1;
    span.setAttribute("role", "button");
    span.setAttribute("aria-describedby", tell.card);
    span.focus();
  };
  /** The token above or below: the nearest one of the next line. */
  const vertical = (i: number, by: 1 | -1): number => {
    const from = at(i)?.getClientRects()[0];
    if (!from) return i;
    let best = i;
    let least = Number.POSITIVE_INFINITY;
    let line: number | undefined;
    for (let j = i + by; at(j); j += by) {
      const rect = at(j)?.getClientRects()[0];
      if (!rect || Math.abs(rect.top - from.top) < from.height / 2) continue;
      line ??= rect.top;
      if (Math.abs(rect.top - line) >= from.height / 2) break;
      const distance = Math.abs(rect.left - from.left);
      if (distance < least) [best, least] = [j, distance];
    }
    return best;
  };
  region.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const i = indexOf(event.target);
      if (i < 0) {
        if (event.target !== region || event.key !== "Enter" || !text.children.length || joined()) return;
        event.preventDefault();
        go(Math.min(last, text.children.length - 1));
        return;
      }
      const moves: Record<string, () => number> = {
        ArrowRight: () => step(i, 1),
        ArrowLeft: () => step(i, -1),
        ArrowDown: () => vertical(i, 1),
        ArrowUp: () => vertical(i, -1),
        Home: () => 0,
        End: () => text.children.length - 1,
      };
      const to = moves[event.key];
      if (to) {
        event.preventDefault();
        go(to());
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        tell.choose(i);
      } else if (event.key === "Escape") tell.point(null, null, true);
    },
    { signal },
  );
  text.addEventListener(
    "focusin",
    (event) => {
      const i = indexOf(event.target);
      if (i < 0) return;
      last = i;
      tell.point(i, at(i) ?? null, true);
    },
    { signal },
  );
  text.addEventListener(
    "focusout",
    (event) => {
      for (const name of ["role", "aria-describedby", "tabindex"])
        (event.target as Element).removeAttribute(name);
      tell.point(null, null, true);
    },
    { signal },
  );
  text.addEventListener(
    "pointerover",
    (event) => {
      clearTimeout(hover);
      const i = indexOf(event.target);
      if (i < 0 || event.buttons) return;
      hover = setTimeout(() => tell.point(i, at(i) ?? null, false), HOVER_MS);
    },
    { signal },
  );
  text.addEventListener(
    "pointerleave",
    () => {
      clearTimeout(hover);
      tell.point(null, null, false);
    },
    { signal },
  );
  text.addEventListener(
    "click",
    (event) => {
      const i = indexOf(event.target);
      if (i >= 0 && (getSelection()?.isCollapsed ?? true)) tell.choose(i); // to mark words is no click
    },
    { signal },
  );
  return () => {
    end.abort();
    clearTimeout(hover);
  };
}
