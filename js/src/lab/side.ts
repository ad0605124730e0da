/**
 * A notebook's lab beside it: another view of the panel that was used last, or of one that no cell shows. The panel is the
 * notebook's own widget, rendered by what renders its outputs; nothing here knows what is in it.
 */
import type { Cell } from "@jupyterlab/cells";
import { NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { MimeModel } from "@jupyterlab/rendermime";
import { closeIcon } from "@jupyterlab/ui-components";
import { Panel, Widget } from "@lumino/widgets";
import { aboutOf } from "../widget/host";
import { panelsOf } from "./heirs";
import { icon } from "./icon";
import { cellShowing, lastUsed, type Side } from "./labs";

const VIEW = "application/vnd.jupyter.widget-view+json";
const NEWEST = '__import__("steerlab.ui.beside", fromlist=["show"]).show()'; // leaves no name in the notebook
const PATIENCE_MS = 400;

const NONE = [
  "There is no open lab in this notebook’s kernel. Run a cell that makes one, such as ",
  "lab = sl.Lab()",
  ": its panel then comes here by itself.",
];
const NO_WIDGETS =
  "This page cannot show widgets. Install ipywidgets where it is served from, too, then load it anew.";
const BUSY = "The kernel is busy with a cell. The panel comes here once it has run.";

export class LabBeside extends Panel implements Side {
  cell: Cell | undefined;
  private readonly name = document.createElement("h2");
  private readonly said = document.createElement("p");
  private view: Widget | undefined;
  private widget: string | undefined;
  private looking = false;
  private again = false;

  constructor(readonly notebook: NotebookPanel) {
    super();
    this.id = `steerlab-beside-${notebook.id}`;
    this.addClass("steerlab-beside");
    this.node.setAttribute("role", "region");
    this.title.icon = icon;
    this.title.closable = true;
    this.said.setAttribute("role", "status");
    this.addWidget(new Widget({ node: this.head() }));
    this.addWidget(new Widget({ node: this.said }));
    this.rename();
    notebook.context.pathChanged.connect(this.rename, this);
    notebook.disposed.connect(this.dispose, this);
    NotebookActions.executed.connect(this.follow, this); // disposing ends these
  }

  /** Show the panel that was used last of those in the cells, else the newest lab of the kernel. */
  async look(): Promise<void> {
    this.again = true;
    if (this.looking) return;
    this.looking = true;
    try {
      while (this.again && !this.isDisposed) {
        this.again = false;
        await this.put(await this.find());
      }
    } finally {
      this.looking = false;
    }
  }

  protected override onCloseRequest(): void {
    this.dispose();
  }

  private head(): HTMLElement {
    const head = document.createElement("div");
    head.className = "steerlab-beside-head";
    const close = document.createElement("button");
    close.type = "button";
    close.title = "Close";
    close.setAttribute("aria-label", "Close the lab beside the notebook");
    close.addEventListener("click", () => this.close());
    closeIcon.element({ container: close, width: "16px", height: "16px" });
    head.append(this.name, close);
    return head;
  }

  private rename(): void {
    const name = this.notebook.context.path.split("/").at(-1) ?? "";
    this.name.textContent = name;
    this.name.title = this.notebook.context.path;
    this.title.caption = `Steering lab of ${name}`;
    this.node.setAttribute("aria-label", this.title.caption);
  }

  /** A cell has run: it may have made a lab, put another panel in the place of this one, or closed it. */
  private follow(_: unknown, { notebook }: { notebook: NotebookPanel["content"] }): void {
    if (notebook !== this.notebook.content) return;
    const about = this.root && aboutOf(this.root);
    if (!about?.live || !cellShowing(this.notebook, about.widget)) this.look();
  }

  private get root(): Element | undefined {
    return panelsOf(this.node)[0];
  }

  /** The id of the widget to be shown. */
  private async find(): Promise<string | undefined> {
    const live = lastUsed(this.notebook);
    if (live?.cell) return live.about.widget;
    const waits = setTimeout(() => this.view || this.say(BUSY), PATIENCE_MS);
    const newest = await this.newest().catch(() => undefined); // the kernel ended meanwhile
    clearTimeout(waits);
    return newest ?? lastUsed(this.notebook, false)?.about.widget;
  }

  private async newest(): Promise<string | undefined> {
    await this.notebook.sessionContext.ready;
    const kernel = this.notebook.sessionContext.session?.kernel;
    if (!kernel || kernel.status === "dead") return undefined;
    let found: string | undefined;
    const future = kernel.requestExecute({ code: NEWEST, store_history: false, stop_on_error: false });
    future.onIOPub = ({ content }) => {
      const { data } = content as { data?: { [VIEW]?: { model_id: string } } };
      found = data?.[VIEW]?.model_id ?? found;
    };
    const { content } = await future.done;
    return content.status === "aborted" ? this.newest() : found; // it stood behind a cell that failed
  }

  private async put(widget: string | undefined): Promise<void> {
    if (this.isDisposed) return;
    const { rendermime } = this.notebook.content;
    const cell = cellShowing(this.notebook, widget);
    if (widget && widget === this.widget && this.root) {
      this.cell = cell ?? this.cell;
      this.say("");
      return;
    }
    this.view?.dispose();
    this.view = undefined;
    this.widget = widget;
    this.cell = cell;
    if (!widget) return this.say(...NONE);
    if (!rendermime.getFactory(VIEW)) return this.say(NO_WIDGETS);
    this.say("");
    const view = rendermime.createRenderer(VIEW);
    this.view = view;
    this.addWidget(view);
    const data = { [VIEW]: { version_major: 2, version_minor: 0, model_id: widget } };
    await view.renderModel(new MimeModel({ data, trusted: true }));
  }

  /** Words, code and words in turn. */
  private say(...parts: string[]): void {
    const code = (source: string) => Object.assign(document.createElement("code"), { textContent: source });
    this.said.replaceChildren(...parts.map((part, i) => (i % 2 ? code(part) : part)));
  }
}
