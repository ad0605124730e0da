/**
 * A form that sends itself. The browser would hold 0.12 against a step of 0.05, and say so where nobody sees it, in what is
 * folded away: fields say themselves what is wrong, and the first such one gets the focus instead.
 */
import type { ComponentChildren } from "preact";

/** Fields for a line of text. */
export const TYPED = "input:not([type=checkbox], [type=radio], [type=file])";

interface Props {
  look: string;
  label?: string;
  send(): void;
  children: ComponentChildren;
}

export function Form({ look, label, send, children }: Props) {
  return (
    <form
      class={look}
      aria-label={label}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        const wrong = event.currentTarget.querySelector<HTMLElement>('[aria-invalid="true"]');
        if (!wrong) return send();
        const folded = wrong.closest("details");
        if (folded) folded.open = true;
        wrong.focus();
      }}
      onKeyDown={(event) => {
        // JupyterLab keeps a form in an output from being sent by Enter
        if (event.key !== "Enter" || !(event.target as Element).matches(TYPED)) return;
        event.preventDefault();
        event.currentTarget.requestSubmit();
      }}
    >
      {children}
    </form>
  );
}
