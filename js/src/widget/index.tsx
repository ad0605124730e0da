/** The widget: a factory that anywidget calls once per model, so that all views of a panel share one store. */
import type { AnyModel } from "@anywidget/types";
import { render as mount } from "preact";
import type { Traits } from "../protocol";
import { App } from "./App";
import { about } from "./about";
import {
  watchAbout,
  watchConnection,
  watchFocus,
  watchKeys,
  watchLeaving,
  watchRelease,
  watchSelection,
  watchTakeOver,
  watchTheme,
} from "./host";
import { Store } from "./store";
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
      store = new Store(model);
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
      watchRelease(end.signal, () => store.hold(false));
      watchLeaving(end.signal, () => store.flush());
      watchTakeOver(
        root,
        end.signal,
        () => store.setting,
        (setting) => store.takeOver(setting),
      );
      watchAbout(root, end.signal, () => about(store));
      el.append(root);
      mount(<App store={store} />, root);
      watchConnection(el, end.signal, (yes) => store.connected(yes));
      return close;
    },
  };
};
