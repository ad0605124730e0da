/** The viewer as a document of JupyterLab: it follows its file, and puts the recipe into a lab. It never changes the file. */
import type { JupyterFrontEnd } from "@jupyterlab/application";
import { ABCWidgetFactory, type DocumentRegistry, DocumentWidget } from "@jupyterlab/docregistry";
import { Widget } from "@lumino/widgets";
import { h, render } from "preact";
import { watchTheme } from "../../widget/host";
import { icon } from "../icon";
import { type Read, read } from "./file";
import type { Labs } from "./labs";
import { type Use, Viewer } from "./Viewer";

export const FACTORY = "Steering Recipe";
const LOOK_MS = 2000; // at the file on the disk, of which nobody tells, and at the panels that come and go
const REST_MS = 150; // after which somebody who edits the file elsewhere in the page has stopped

/** What it shows, in the place that JupyterLab gives it. */
class RecipeView extends Widget {
  private read: Read = { recipe: null, trouble: null };
  private use: Use = { lab: null, opensNew: false, doing: "", said: "", trouble: null };
  private readonly end = new AbortController();
  private reread = "";
  /** Whether there is no use in looking at the disk until somebody comes back here. */
  private lost = false;
  private looking: ReturnType<typeof setInterval> | undefined;
  private resting: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly labs: Labs,
    private readonly context: DocumentRegistry.Context,
  ) {
    super();
    this.addClass("sl-recipe");
    watchTheme(this.node, this.end.signal);
    for (const event of ["focusin", "pointerenter"])
      this.node.addEventListener(event, () => this.lookForLab(), { signal: this.end.signal });
    context.pathChanged.connect(this.update, this);
    void context.ready.then(() => {
      if (this.isDisposed) return;
      this.take();
      context.model.contentChanged.connect(this.takeSoon, this);
    });
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.end.abort();
    clearInterval(this.looking);
    clearTimeout(this.resting);
    render(null, this.node);
    super.dispose();
  }

  protected override onAfterShow(): void {
    this.lost = false;
    this.look();
  }

  protected override onAfterAttach(): void {
    this.looking = setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  protected override onBeforeDetach(): void {
    clearInterval(this.looking);
  }

  protected override onUpdateRequest(): void {
    if (!this.context.isReady) return;
    const name = this.name;
    this.node.setAttribute("aria-label", `The recipe ${name}`);
    this.node.tabIndex = 0; // what is longer than the page scrolls by the keys
    const act = { useIt: () => void this.useIt(), openAsText: () => this.openAsText() };
    render(h(Viewer, { name, read: this.read, use: this.use, ...act }), this.node);
  }

  private get name(): string {
    return this.context.localPath.replace(/.*\//, "");
  }

  private take(): void {
    this.read = read(this.context.model.toString());
    this.set({ said: "", trouble: null });
    this.lookForLab();
  }

  private takeSoon(): void {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.take(), REST_MS);
  }

  private look(): void {
    if (!this.isVisible || document.hidden) return;
    this.lookForLab();
    void this.lookAtDisk();
  }

  private lookForLab(): void {
    const lab = this.labs.current?.name ?? null;
    const { opensNew } = this.labs;
    if (lab !== this.use.lab || opensNew !== this.use.opensNew) this.set({ lab, opensNew, said: "" });
  }

  /** Reads a file again that another program wrote, each time once; what is being edited in this page is let be. */
  private async lookAtDisk(): Promise<void> {
    const { context } = this;
    if (this.lost || !context.isReady || context.model.dirty) return;
    try {
      const { contents } = this.app.serviceManager;
      const { last_modified: written } = await contents.get(context.path, { content: false });
      const known = [context.contentsModel?.last_modified, this.reread].includes(written);
      if (this.isDisposed || context.model.dirty || known) return;
      this.reread = written; // also where it cannot be read any more, which JupyterLab says then
      await context.revert();
    } catch {
      this.lost = true; // it was deleted, or the server is away: what was read last stays
    }
  }

  private async useIt(): Promise<void> {
    const { name, labs } = this;
    const file = new File([this.context.model.toString()], name);
    const lab = labs.current;
    this.set({ doing: lab ? `${lab.name} reads it…` : "A new lab is opened…", said: "", trouble: null });
    try {
      const taker = lab ?? (await labs.open(this.context.path.replace(/[^/]*$/, "")));
      const trouble = await labs.use(taker, file);
      this.set({ lab: taker.name, trouble, said: trouble ? "" : `${taker.name} is set to it now.` });
      if (trouble && this.parent) this.app.shell.activateById(this.parent.id); // a new lab may stand before it
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      this.set({ trouble: { what, hint: "Nothing was changed. Press again, or look into the notebook." } });
    } finally {
      this.set({ doing: "" });
    }
  }

  private openAsText(): void {
    const { path } = this.context;
    void this.app.commands.execute("docmanager:open", { path, factory: "Editor" });
  }

  private set(change: Partial<Use>): void {
    if (this.isDisposed) return;
    this.use = { ...this.use, ...change };
    this.update();
  }
}

export class RecipeFactory extends ABCWidgetFactory<DocumentWidget> {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly labs: Labs,
    options: DocumentRegistry.IWidgetFactoryOptions<DocumentWidget>,
  ) {
    super(options);
  }

  protected override createNewWidget(context: DocumentRegistry.Context): DocumentWidget {
    const made = new DocumentWidget({ content: new RecipeView(this.app, this.labs, context), context });
    made.title.icon = icon;
    return made;
  }
}
