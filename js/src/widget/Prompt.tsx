/** What the model is asked, what it reads in truth, and the examples to start from. */
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Store } from "./store";
import { templateParts } from "./template";
import { useUnique } from "./unique";

export function Prompt({ store }: { store: Store }) {
  const id = useUnique();
  const box = useRef<HTMLTextAreaElement>(null);
  const { prompt } = store.state.value;
  const fit = () => {
    const el = box.current;
    if (!el) return;
    el.style.height = "auto";
    el.style.height = `${el.scrollHeight + 2}px`;
  };
  useLayoutEffect(fit, [prompt]);
  useEffect(() => {
    if (!box.current) return;
    // in the next frame: what an observer changes of what it observes is an error of the page
    const watch = new ResizeObserver(() => requestAnimationFrame(fit));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const run = () => store.edit({}, "now");
  return (
    <section class="sl-section" aria-label="Prompt">
      <label class="sl-label" for={id}>
        Prompt
      </label>
      <div class="sl-prompt">
        <textarea
          id={id}
          ref={box}
          rows={1}
          value={prompt}
          placeholder="Ask the model something"
          spellcheck={false}
          onInput={(event) => store.edit({ prompt: event.currentTarget.value }, "typing")}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            run();
          }}
        />
        <select
          class="sl-examples"
          aria-label="Examples"
          value=""
          onKeyDown={open}
          onChange={(event) => {
            store.edit({ prompt: event.currentTarget.value }, "now");
            event.currentTarget.value = "";
          }}
        >
          <option value="" disabled hidden>
            Examples
          </option>
          {store.examples.map((example) => (
            <option key={example} value={example}>
              {example}
            </option>
          ))}
        </select>
        <button
          type="button"
          class="sl-button sl-primary"
          onClick={run}
          title="Enter in the prompt does the same"
        >
          Run <span class="sl-key">↵</span>
        </button>
      </div>
      <Template store={store} />
    </section>
  );
}

const WALKING = ["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft", "PageDown", "PageUp", "Home", "End"];

/** What walks in the list opens it: by itself each such key would take, and run, the first example. */
function open(event: KeyboardEvent & { currentTarget: HTMLSelectElement }) {
  const list = event.currentTarget;
  if (event.altKey || event.ctrlKey || event.metaKey || !WALKING.includes(event.key)) return;
  if (!CSS.supports("selector(:open)") || list.matches(":open")) return;
  event.preventDefault();
  try {
    list.showPicker();
  } catch {
    // not in a frame of another origin: the space bar opens it there
  }
}

/** The prompt inside its chat template, token by token: what is not the person's own text stands out. */
function Template({ store }: { store: Store }) {
  const parts = templateParts(store.stream.promptTokens.value, store.state.value.prompt);
  return (
    <p class="sl-template" title="What the model reads: the chat template around the prompt, token by token">
      <span class="sl-sr">The model reads:</span>
      {parts.map(({ text, own }, i) => (
        <span key={i} class={own ? "sl-own" : "sl-frame"}>
          {text}
        </span>
      ))}
    </p>
  );
}
