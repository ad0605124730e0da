/** The widget: a factory that anywidget calls once per model, so that all views of a panel share one store. */
import type { AnyModel } from "@anywidget/types";
import { effect } from "@preact/signals";
import { render as mount } from "preact";
import type { Traits } from "../protocol";
import { App } from "./App";
import { about } from "./about";
import {
  watchAbout,
  watchConnection,
  watchFiles,
  watchFocus,
  watchKeys,
  watchLeaving,
  watchMotion,
  watchRelease,
  watchSelection,
  watchTakeOver,
  watchTheme,
  whenShown,
} from "./host";
import { preferences, tellStanding, watchPreferences } from "./jupyterlab";
import { standing } from "./standing";
import { Store } from "./store";
import { take } from "./taking";
import "./css/colours.css";
import "./css/base.css";
import "./css/controls.css";
import "./css/rows.css";
import "./css/picker.css";
import "./css/preview.css";
import "./css/tabs.css";
import "./css/tokens.css";
import "./css/lens.css";
import "./css/code.css";
import "./css/charts.css";
import "./css/atlas.css";
import "./css/snapshots.css";
import "./css/sweep.css";
import "./css/find.css";
import "./css/help.css";
import "./css/jobs.css";

interface Context {
  model: AnyModel<Traits>;
  el: HTMLElement;
  signal?: AbortSignal;
}

export default () => {
  let store: Store;
  return {
    initialize({ model }: Pick<Context, "model">) {
      store = new Store(model, preferences());
    },
    render({ el, signal }: Context) {
      const end = new AbortController();
      const close = () => {
        end.abort();
        mount(null, root);
      };
      signal?.addEventListener("abort", close);
      const root = document.createElement("div");
      root.className = "sl-app";
      watchKeys(root, end.signal);
      watchFocus(root, end.signal);
      watchSelection(root, end.signal);
      watchTheme(root, end.signal);
      watchMotion(root, end.signal);
      watchRelease(end.signal, () => store.hold(false));
      watchLeaving(end.signal, () => store.flush());
      watchTakeOver(
        root,
        end.signal,
        () => store.setting,
        (setting) => store.takeOver(setting),
      );
      watchFiles(root, end.signal, (files) => take(store, files));
      watchAbout(root, end.signal, () => about(store));
      el.append(root);
      mount(<App store={store} />, root);
      watchConnection(el, end.signal, (yes) => store.connected(yes));
      watchPreferences(end.signal, (set) => store.prefer(set));
      whenShown(root, end.signal, () => {
        const still = effect(() => tellStanding({ root, standing: standing(store) }));
        end.signal.addEventListener("abort", () => {
          still();
          tellStanding({ root, standing: null });
        });
      });
      return close;
    },
  };
};
