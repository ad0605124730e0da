/** What a person set in JupyterLab's settings editor, for new labs and for all panels. Its words are in `schema/settings.json`. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { properties } from "../../schema/settings.json";
import { offerPreferences } from "../widget/jupyterlab";

const ID = "@steerlab/lab:settings"; // and so the schema's file is settings.json

export interface Settings {
  /** An id or a folder; empty for the embedded model. */
  model: string;
  backend: "here" | "ndif";
  /** Of a server of one's own; empty for the hosted one. */
  host: string;
  /** As `lab.ahead`; null for what the lab has by itself. */
  ahead: number | null;
  control: boolean;
  animation: "system" | "off";
}

export const DEFAULTS = Object.fromEntries(
  Object.entries(properties).map(([name, { default: value }]) => [name, value]),
) as unknown as Settings;

/** What is set, as it is whenever one asks; `tell` hears of changes. Where it cannot be had all is as by default. */
export async function settingsIn(
  registry: ISettingRegistry | null,
  tell: () => void = () => undefined,
): Promise<() => Settings> {
  const loaded = await registry?.load(ID).catch((reason) => {
    console.error("The settings of steerlab could not be loaded.", reason);
  });
  loaded?.changed.connect(tell);
  return () => ({ ...DEFAULTS, ...loaded?.composite });
}

export const settings: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Tells panels what a person set for all of them.",
  autoStart: true,
  optional: [ISettingRegistry],
  activate: async (_app: JupyterFrontEnd, registry: ISettingRegistry | null) => {
    let set: (() => Settings) | undefined; // what answers at once has nothing to say before it is loaded
    const tell = offerPreferences(() => {
      if (!set) return {};
      const { control, animation } = set();
      return { control, animation };
    });
    set = await settingsIn(registry, tell);
    tell();
  },
};
