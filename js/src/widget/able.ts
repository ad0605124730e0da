/** A button that may be off. What is `disabled` loses the focus to the page, so this one keeps it and does nothing. */
export function able(on: boolean, act?: () => void) {
  return { "aria-disabled": !on, onClick: act && (() => on && act()) };
}
