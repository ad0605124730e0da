/** What the words and the keys of the panel mean, behind a question mark. */
import { useDrop } from "./useDrop";

type Meaning = readonly [word: string, meaning: string];

const WORDS = [
  ["add", "the direction, times the coefficient, is added to the residual stream (activation addition)"],
  ["ablate", "the stream’s part along the direction is taken out (directional ablation)"],
  ["clamp", "the stream’s projection on the direction is set to a number"],
  [
    "random control",
    "the same steps with a random direction of the same norm: what it does too is no sign of this one",
  ],
  [
    "CE",
    "cross-entropy: how unlikely a token of the baseline’s text is under a pane’s recipe, on average, in nats; the baseline’s own is the yardstick",
  ],
  ["KL", "how far steering moves the first token’s distribution from the baseline’s, in nats"],
] as const;

const KEYS = [
  ["Tab, Shift+Tab", "on and back, through everything"],
  ["Enter", "in the prompt: run; in a row: choose it; in a text: go in, token by token"],
  ["arrows", "slider, layers and sites, tabs, maps, tokens; on a row’s handle: its order"],
  ["Space", "switch a cell of layers and sites; Shift with an arrow brushes"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, and do again"],
  ["Escape", "close this, or back to the notebook"],
] as const;

export function Help({ model }: { model: Meaning[] }) {
  const { open, root, button, id } = useDrop();
  return (
    <div class="sl-help" {...root}>
      <button type="button" class="sl-step" title="Words and keys" aria-label="Help" {...button}>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M8.5 9a3.5 3.5 0 1 1 5.4 2.9c-1.2.8-1.9 1.5-1.9 2.9M12 18.6v.2" />
        </svg>
      </button>
      <section id={id} class="sl-drop" aria-label="Help" tabIndex={0} hidden={!open}>
        <Meanings name="Words" list={WORDS} />
        <Meanings name="Keys" list={KEYS} />
        <Meanings name="Model" list={model} />
      </section>
    </div>
  );
}

function Meanings({ name, list }: { name: string; list: readonly Meaning[] }) {
  return (
    <>
      <h3 class="sl-label">{name}</h3>
      <dl class="sl-meanings">
        {list.map(([word, meaning]) => (
          <div key={word}>
            <dt>{word}</dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}
