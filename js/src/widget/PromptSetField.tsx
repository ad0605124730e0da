/** A set of prompts: a bundled one, typed text, or a file that the browser reads; only its text goes to the kernel. */
import { useRef, useState } from "preact/hooks";
import type { PromptSet, Trouble } from "../protocol";
import { tooLarge } from "./bytes";
import { Failed } from "./Failed";
import { NumberField } from "./NumberField";
import { useUnique } from "./unique";

interface Props {
  /** What they are: "Prompts that show it". */
  label: string;
  value: PromptSet;
  /** A source that this place has beside the usual ones, like the panel's own prompt. */
  own?: { value: string; words: string; chosen: boolean; choose(): void };
  placeholder?: string;
  onChange(value: PromptSet): void;
}

const SOURCES: Record<PromptSet["source"], string> = {
  harmful: "bundled: harmful",
  harmless: "bundled: harmless",
  text: "typed or pasted",
  prompt: "one prompt, typed",
  file: "a file…",
};

export function PromptSetField({ label, value, own, placeholder, onChange }: Props) {
  const id = useUnique();
  const chosen = own?.chosen ? "own" : value.source;
  const [refused, setRefused] = useState<Trouble | null>(null);
  // what was typed or read comes back with its source: an arrow key is enough to choose another one
  const kept = useRef(new Map<string, Pick<PromptSet, "text" | "file">>());
  const choose = (source: PromptSet["source"]) => {
    kept.current.set(value.source, { text: value.text, file: value.file });
    setRefused(null);
    onChange({ ...value, text: "", file: "", ...kept.current.get(source), source });
  };
  const take = async (file: File) => {
    const trouble = tooLarge(
      [file],
      "Read it in a cell: sl.prompts.read(path) gives prompts for lab.find_direction.",
    );
    setRefused(trouble);
    if (!trouble) onChange({ ...value, source: "file", file: file.name, text: await file.text() });
  };
  return (
    <div class="sl-set" role="group" aria-label={label}>
      <label class="sl-set-head">
        <span>{label}</span>
        <select
          class="sl-select"
          value={chosen}
          onChange={(event) => {
            const source = event.currentTarget.value;
            if (source === "own") own?.choose();
            else choose(source as PromptSet["source"]);
          }}
        >
          {own && <option value="own">{own.words}</option>}
          {Object.entries(SOURCES).map(([source, words]) => (
            <option key={source} value={source}>
              {words}
            </option>
          ))}
        </select>
      </label>
      {(chosen === "harmful" || chosen === "harmless") && (
        <span class="sl-set-n">
          n
          <NumberField
            label={`${label}: how many`}
            value={value.n}
            min={1}
            max={5000}
            integer
            onChange={(n) => onChange({ ...value, n })}
          />
        </span>
      )}
      {(chosen === "text" || chosen === "prompt") && (
        <textarea
          class="sl-set-text"
          rows={4}
          aria-label={chosen === "text" ? `${label}, one a line` : label}
          placeholder={placeholder ?? (chosen === "text" ? "One a line" : "All of it is one prompt")}
          spellcheck={false}
          value={value.text}
          onInput={(event) => onChange({ ...value, text: event.currentTarget.value })}
        />
      )}
      {chosen === "file" && (
        <div class="sl-set-file">
          <input
            type="file"
            accept=".csv,.tsv,.json,.jsonl,.ndjson,.txt"
            aria-label={`${label}: file`}
            aria-describedby={id}
            onChange={(event) => {
              const field = event.currentTarget;
              const [file] = field.files ?? [];
              field.value = ""; // so that the same file can be chosen again
              if (file) take(file);
            }}
          />
          <input
            class="sl-field"
            type="text"
            aria-label={`${label}: column`}
            placeholder="column"
            value={value.column}
            onInput={(event) => onChange({ ...value, column: event.currentTarget.value })}
          />
          <Failed error={refused} />
          <p id={id} class="sl-remark">
            {value.file && <strong>{value.file} was read. </strong>}
            CSV, TSV, JSON, JSON lines, or text with one a line. The column only where its name is unusual.
          </p>
        </div>
      )}
    </div>
  );
}
