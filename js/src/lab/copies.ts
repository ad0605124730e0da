/** Puts a tutorial into a folder of the server, where it is a person's own to write into; what is there already stays. */
import type { Contents } from "@jupyterlab/services";

export interface Tutorial {
  /** Of the notebook, as in `examples/`. */
  file: string;
  number: number;
  title: string;
}

type Files = Pick<Contents.IManager, "get" | "save">;

/** The path of the person's copy, which is made where there is none. Fails in words. */
export async function copyOf(
  { file }: Tutorial,
  folder: string,
  files: Files,
  load: (file: string) => Promise<Response>,
): Promise<string> {
  const path = folder ? `${folder.replace(/\/$/, "")}/${file}` : file;
  const there = folder || "the server’s folder";
  if (await isThere(path, files)) return path;
  const content = await fresh(file, load);
  try {
    await files.save(path, { type: "notebook", format: "json", content });
  } catch (error) {
    throw new Error(
      `${file} cannot be written to ${there}: ${reason(error)} Open a folder that you may write to, then try again.`,
    );
  }
  return path;
}

async function isThere(path: string, files: Files): Promise<boolean> {
  try {
    await files.get(path, { content: false });
    return true;
  } catch (error) {
    if (status(error) === 404) return false;
    throw new Error(`Whether ${path} is there cannot be seen: ${reason(error)}`);
  }
}

async function fresh(file: string, load: (file: string) => Promise<Response>): Promise<unknown> {
  let answer: Response;
  try {
    answer = await load(file);
  } catch {
    throw new Error(`${file} cannot be fetched: ${SILENT}`);
  }
  if (!answer.ok) throw new Error(`${file} cannot be fetched: the server answers ${answer.status}. ${AGAIN}`);
  try {
    return await answer.json();
  } catch {
    throw new Error(`What was fetched as ${file} is no notebook. ${AGAIN}`);
  }
}

const SILENT = "the server does not answer. Is it still running?";
const AGAIN = "Install steerlab again where JupyterLab runs, then load this page anew.";

const status = (error: unknown) => (error as { response?: Response }).response?.status;

function reason(error: unknown): string {
  const code = status(error);
  if (code === undefined) return SILENT;
  if (code === 403) return "permission is denied.";
  const { message } = error as Error;
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
