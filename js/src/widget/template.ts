/** Tells the tokens of a chat template from those of the prompt inside it, and makes visible what would be lost. */
export interface Part {
  token: string;
  /** As it is shown. */
  text: string;
  /** Part of what the person wrote. */
  own: boolean;
}

const NAMED: Record<string, string> = { "\n": "↵", "\t": "⇥", "\u007f": "␡", "\u00a0": "⍽" };
// what steers the text around it, or cannot be seen: joiners are left to the emoji that they join
const UNSEEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0]/gu;

function sign(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x20) return NAMED[character] ?? String.fromCharCode(0x2400 + code);
  return NAMED[character] ?? `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** Line ends, control characters and spaces on their own, made visible. */
export function visible(token: string): string {
  return token.replace(UNSEEN, sign).replace(/^ +$/, (spaces) => "␣".repeat(spaces.length));
}

/** The same with every space, for a token that stands alone. */
export function spelled(token: string): string {
  const text = /^[\u200c\u200d]+$/.test(token) ? token.replace(/./g, sign) : visible(token);
  return text.replaceAll(" ", "␣") || "(no text)";
}

export function templateParts(tokens: readonly string[], prompt: string): Part[] {
  const text = tokens.join("");
  const start = text.indexOf(prompt.trim());
  const end = start < 0 ? -1 : start + prompt.trim().length;
  let at = 0;
  return tokens.map((token) => {
    const from = at;
    at += token.length;
    return { token, text: visible(token), own: from < end && at > start };
  });
}
