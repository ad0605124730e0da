/** The panel, from top to bottom. */
import { Banner } from "./Banner";
import { Directions } from "./Directions";
import { TYPED } from "./Form";
import { Header } from "./Header";
import { isUndo } from "./host";
import { Prompt } from "./Prompt";
import type { Store } from "./store";
import { Tabs } from "./Tabs";
import { Where } from "./Where";

export function App({ store }: { store: Store }) {
  return (
    <div
      role="group"
      aria-label="Steering lab"
      data-run={store.stream.run.value}
      onKeyDown={(event) => {
        if (!isUndo(event) || undoesItself(event.target as Element)) return;
        event.preventDefault(); // a field's own undo knows nothing of what else was changed
        if (event.shiftKey) store.redo();
        else store.undo();
      }}
      onPointerDown={() => store.hold(true)}
    >
      <HideStaticPage page={store.page} />
      <Header store={store} />
      <Prompt store={store} />
      <Directions store={store} />
      <Where store={store} />
      <Banner store={store} />
      <Tabs store={store} />
    </div>
  );
}

/** What is typed in a form, or as a new name, is no part of what is set: there the browser's undo is the right one. */
function undoesItself(field: Element): boolean {
  return field.matches(`form :is(textarea, ${TYPED}), [data-own-undo]`);
}

/** The texts that a notebook without a kernel shows are not needed beside a panel that is there. */
function HideStaticPage({ page }: { page: string }) {
  if (!/^[\w-]+$/.test(page)) return null;
  // their own output alone: within a widget that holds outputs, the panel is in the cell's output, too
  const own = `.jp-OutputArea-child:has(.${page}):not(:has(.jp-OutputArea .${page}))`;
  return <style>{`.${page}, ${own} {display: none}`}</style>;
}
