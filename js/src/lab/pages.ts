/**
 * Keeps the static pages of a notebook's panels new (`steerlab/ui/snapshot.py`).
 *
 * JupyterLab finds the output that an update belongs to only until the browser's page is reloaded; after that the kernel's
 * updates would be lost, and the notebook saved with older texts than the panel shows. A page's name stands in its HTML.
 */
import type { CodeCell } from "@jupyterlab/cells";
import type { NotebookPanel } from "@jupyterlab/notebook";

interface Update {
  data: { "text/html"?: string };
  metadata: Record<string, never>;
  transient?: { display_id?: string };
}

export function keepPages(panel: NotebookPanel): void {
  panel.sessionContext.iopubMessage.connect((_, message) => {
    if (message.header.msg_type !== "update_display_data") return;
    const { data, metadata, transient } = message.content as Update;
    const page = transient?.display_id;
    if (page?.startsWith("steerlab-static")) write(panel, page, { data, metadata });
  });
}

function write(panel: NotebookPanel, page: string, output: Pick<Update, "data" | "metadata">): void {
  for (const cell of panel.content.widgets) {
    if (cell.model.type !== "code") continue;
    const { outputs } = (cell as CodeCell).model;
    for (let i = 0; i < outputs.length; i++) {
      const html = outputs.get(i).data["text/html"];
      if (String(html).includes(page) && html !== output.data["text/html"]) {
        outputs.set(i, { output_type: "display_data", ...output });
      }
    }
  }
}
