/** A recipe's file, from top to bottom: what it is, what it does, its directions, and the file itself. */
import type { ComponentChildren } from "preact";
import type { Trouble } from "../../protocol";
import { type Direction, FORMAT, isTable, type Json, type Read, type Recipe, type Step } from "./file";
import { counted, type Fact, facts, line, meaning, numbered, scalar } from "./words";

/** What the button at the top can do, and what came of it. */
export interface Use {
  /** The current lab's notebook; null where no panel is open. */
  lab: string | null;
  opensNew: boolean;
  /** What is going on: "" for nothing. */
  doing: string;
  /** What was done last. */
  said: string;
  trouble: Trouble | null;
}

interface Props {
  name: string;
  read: Read;
  use: Use;
  useIt(): void;
  openAsText(): void;
}

export function Viewer({ name, read, use, useIt, openAsText }: Props) {
  const { recipe, trouble } = read;
  return (
    <div class="sl-recipe-page">
      <div class="sl-recipe-head">
        <div class="sl-recipe-title">
          <h2>{name}</h2>
          {recipe && <p>{summary(recipe)}</p>}
        </div>
        {recipe && !trouble && <UseIt use={use} useIt={useIt} />}
      </div>
      {trouble && (
        <Note trouble={trouble}>
          <button type="button" class="sl-recipe-button" onClick={openAsText}>
            Open as text
          </button>
        </Note>
      )}
      {use.trouble && !trouble && <Note trouble={use.trouble} />}
      {recipe && <What recipe={recipe} />}
      {recipe && recipe.directions.length > 0 && <Directions recipe={recipe} />}
      {recipe && !trouble && (
        <section class="sl-recipe-section" aria-label="The file">
          <h3>The file</h3>
          <div class="sl-recipe-card">
            <Facts
              given={[
                ["format", FORMAT],
                ["fingerprint", recipe.fingerprint],
              ]}
            />
            <button type="button" class="sl-recipe-button" onClick={openAsText}>
              Open as text
            </button>
          </div>
        </section>
      )}
    </div>
  );
}

function summary({ steps, directions }: Recipe): string {
  const models = [...new Set(directions.map((one) => one.model ?? "a model that is not named"))];
  const found = models.length ? `, found in ${models.join(" and ")}` : "";
  return `A recipe of ${counted(steps.length, "step")} and ${counted(directions.length, "direction")}${found}.`;
}

function UseIt({ use, useIt }: { use: Use; useIt(): void }) {
  const { lab, opensNew, doing, said } = use;
  const possible = lab !== null || opensNew;
  return (
    <div class="sl-recipe-use">
      {possible && (
        <button
          type="button"
          class="sl-recipe-button"
          data-look="primary"
          aria-disabled={doing !== ""}
          onClick={() => !doing && useIt()}
        >
          {lab === null ? "Open a new lab with it" : "Use in the current lab"}
        </button>
      )}
      <p role="status">
        {doing ||
          said ||
          (lab === null ? (
            "No panel is open here."
          ) : (
            <>
              in <strong>{lab}</strong>
            </>
          ))}
      </p>
      {!possible && <p>In a notebook with a panel, its “+ load a file…” reads this file.</p>}
    </div>
  );
}

function What({ recipe }: { recipe: Recipe }) {
  return (
    <section class="sl-recipe-section" aria-label="What it does">
      <h3>What it does</h3>
      {recipe.steps.length ? (
        <ol class="sl-recipe-steps">
          {recipe.steps.map((step, i) => (
            <li key={i}>
              <Line step={step} />
              <Facts given={meaning(step)} />
            </li>
          ))}
        </ol>
      ) : (
        <p class="sl-recipe-soft">Nothing: it is the empty recipe, the baseline.</p>
      )}
    </section>
  );
}

function Line({ step }: { step: Step }) {
  return (
    <p class="sl-recipe-line">
      {line(step).map(({ text, look }, i) =>
        look ? (
          <strong key={i} data-look={look}>
            {text}
          </strong>
        ) : (
          text
        ),
      )}
    </p>
  );
}

function Directions({ recipe }: { recipe: Recipe }) {
  return (
    <section class="sl-recipe-section" aria-label="Directions">
      <h3>Directions</h3>
      {recipe.directions.map((one, i) => (
        <article key={i} class="sl-recipe-card" aria-label={one.name}>
          <h4>{one.name}</h4>
          <Facts given={[...facts(one), ["used", usedIn(one, recipe.steps)]]} />
          <Provenance of={one} />
        </article>
      ))}
    </section>
  );
}

function usedIn(direction: Direction, steps: readonly Step[]): string {
  const numbers = (has: (step: Step) => boolean) => steps.flatMap((step, i) => (has(step) ? [i + 1] : []));
  const own = numbers(({ directions }) => directions.includes(direction));
  const gates = numbers(({ gate }) => gate?.direction === direction);
  const places = [
    own.length && `in ${numbered("step", own)}`,
    gates.length && `in the gate of ${numbered("step", gates)}`,
  ];
  return places.filter(Boolean).join(", and ") || "in no step";
}

function Provenance({ of: { provenance } }: { of: Direction }) {
  return (
    <>
      <h5>How it was found</h5>
      {Object.keys(provenance).length ? (
        <Table given={provenance} />
      ) : (
        <p class="sl-recipe-soft">The file does not say.</p>
      )}
    </>
  );
}

function Facts({ given }: { given: readonly Fact[] }) {
  return (
    <dl class="sl-recipe-facts">
      {given.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Table({ given }: { given: { [name: string]: Json } }) {
  return (
    <dl class="sl-recipe-facts">
      {Object.entries(given).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <Value of={value} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

const MANY = 12;

/** Whatever a provenance holds, however deep. */
function Value({ of: value }: { of: Json }) {
  if (isTable(value)) return Object.keys(value).length ? <Table given={value} /> : <>none</>;
  if (!Array.isArray(value)) return <>{scalar(value)}</>;
  if (!value.length) return <>none</>;
  if (value.length <= MANY) return <List of={value} />;
  return (
    <details>
      <summary>{counted(value.length, "value")}</summary>
      <List of={value} />
    </details>
  );
}

function List({ of: values }: { of: readonly Json[] }) {
  if (values.every((one) => typeof one === "number")) return <>{values.map(scalar).join(", ")}</>;
  return (
    <ul>
      {values.map((one, i) => (
        <li key={i}>
          <Value of={one} />
        </li>
      ))}
    </ul>
  );
}

function Note({ trouble, children }: { trouble: Trouble; children?: ComponentChildren }) {
  const what = trouble.what.charAt(0).toUpperCase() + trouble.what.slice(1);
  return (
    <div class="sl-recipe-note" role="alert">
      <span aria-hidden="true">!</span>
      <div>
        <p>
          <strong>{/[.!?]$/.test(what) ? what : `${what}.`}</strong> {trouble.hint}
        </p>
        {children}
      </div>
    </div>
  );
}
