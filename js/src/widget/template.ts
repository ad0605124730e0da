/** Tells the tokens of a chat template from those of the prompt inside it. */
export interface Part {
  text: string;
  /** Part of what the person wrote. */
  own: boolean;
}

/** Spaces and line ends, made visible where they would be lost. */
export function visible(token: string): string {
  return token
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replace(/^ +$/, (spaces) => "␣".repeat(spaces.length));
}

export function templateParts(tokens: readonly string[], prompt: string): Part[] {
  const text = tokens.join("");
  const start = text.indexOf(prompt.trim());
  const end = start < 0 ? -1 : start + prompt.trim().length;
  let at = 0;
  return tokens.map((token) => {
    const from = at;
    at += token.length;
    return { text: visible(token), own: from < end && at > start };
  });
}
