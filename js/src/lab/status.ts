/** An item of JupyterLab's status bar that says what the lab of the current notebook is doing. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { IStatusBar } from "@jupyterlab/statusbar";
import { Widget } from "@lumino/widgets";
import { call } from "../widget/jupyterlab";
import { icon } from "./icon";
import { labsOf, notebookOf } from "./labs";
import { inFull, inShort, Standings, type Stands } from "./standings";

class Item extends Widget {
  private readonly button = document.createElement("button");
  private readonly name = document.createElement("span");
  private readonly rest = document.createElement("span");

  constructor(private readonly click: (root: Element) => void) {
    super();
    this.addClass("jp-mod-highlighted");
    this.node.style.padding = "0"; // all of it is the button
    const { button, name, rest } = this;
    const mark = icon.element({ tag: "span" });
    button.type = "button";
    button.className = "jp-StatusBar-TextItem";
    Object.assign(button.style, BUTTON);
    Object.assign(mark.style, MARK);
    Object.assign(name.style, NAME);
    rest.style.whiteSpace = "pre";
    button.append(mark, name, rest);
    this.node.append(button);
    this.hide();
  }

  say(stands: Stands | null): void {
    this.setHidden(stands === null);
    if (!stands) return;
    const { root, standing } = stands;
    const [name, ...rest] = inShort(standing);
    this.name.textContent = name;
    this.rest.textContent = ["", ...rest].join(" · ");
    this.button.title = inFull(standing);
    this.button.ariaLabel = `Steering lab: ${[name, ...rest].join(" · ")}`;
    this.button.onclick = () => this.click(root);
  }
}

const BUTTON: Partial<CSSStyleDeclaration> = {
  display: "flex",
  alignItems: "center",
  height: "100%",
  padding: "0 6px",
  border: "0",
  background: "none",
  cursor: "pointer",
  outlineOffset: "-2px", // the bar ends where the item does
};
const MARK: Partial<CSSStyleDeclaration> = {
  display: "flex",
  width: "16px",
  marginRight: "5px",
};
const NAME: Partial<CSSStyleDeclaration> = {
  maxWidth: "22ch",
  overflow: "hidden",
  textOverflow: "ellipsis",
};

/** Brings a panel of a notebook into view, and the keys to it. */
async function show({ shell }: JupyterFrontEnd, notebook: NotebookPanel, root: Element): Promise<void> {
  if (shell.currentWidget !== notebook) {
    shell.activateById(notebook.id);
    await frame(); // a notebook that is activated takes the focus itself, a frame later
    await frame();
  }
  const cells = notebook.content.widgets;
  const own = cells.findIndex(({ node }) => node.contains(root));
  // a notebook may not draw what is out of view
  if (own >= 0) await notebook.content.scrollToItem(own, "smart").catch(() => undefined);
  call(root);
}

function frame(): Promise<number> {
  return new Promise(requestAnimationFrame);
}

export const status: JupyterFrontEndPlugin<void> = {
  id: "@steerlab/lab:status",
  description: "Says in the status bar what the current notebook's lab is doing.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [IStatusBar], // Notebook 7 has none
  activate: (app: JupyterFrontEnd, notebooks: INotebookTracker, bar: IStatusBar | null) => {
    if (!bar) return;
    const item = new Item((root) => {
      const notebook = notebookOf(notebooks, root);
      if (notebook) void show(app, notebook, root);
    });
    let awaited = false;
    const renew = () => {
      if (awaited) return; // panels that stream tell often
      awaited = true;
      requestAnimationFrame(() => {
        awaited = false;
        const notebook = notebooks.currentWidget;
        item.say(notebook && standings.newest(labsOf(notebook).map(({ root }) => root)));
      });
    };
    const standings = new Standings(renew);
    notebooks.currentChanged.connect(renew);
    bar.registerStatusItem(status.id, {
      item,
      rank: 1000, // the last one on its side: its length changes, and moves no other
      priority: 1, // also in a narrow window
      isActive: () => !item.isHidden,
    });
  },
};
