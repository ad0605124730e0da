/** A tutorial becomes a file of one's own, once. */
import type { Contents } from "@jupyterlab/services";
import { expect, test } from "vitest";
import { copyOf } from "../src/lab/copies";

const FIRST = { file: "01_first_steps.ipynb", number: 1, title: "First steps" };
const NOTEBOOK = { cells: [], metadata: {}, nbformat: 4, nbformat_minor: 5 };
const load = async () => new Response(JSON.stringify(NOTEBOOK));

function answer(status: number, message: string): Error {
  return Object.assign(new Error(message), { response: new Response(null, { status }) });
}

/** A server with these files. refuses: what it says to whoever writes. */
function server(there: Record<string, unknown> = {}, refuses?: Error) {
  const get = async (path: string) => {
    if (!(path in there)) throw answer(404, "No such file");
    return {} as Contents.IModel;
  };
  const save = async (path: string, what?: Partial<Contents.IModel>) => {
    if (refuses) throw refuses;
    there[path] = what?.content;
    return {} as Contents.IModel;
  };
  return { there, get, save };
}

test("it is written into the folder that is open, or the server's own", async () => {
  const files = server();
  expect(await copyOf(FIRST, "course/monday", files, load)).toBe("course/monday/01_first_steps.ipynb");
  expect(await copyOf(FIRST, "", files, load)).toBe("01_first_steps.ipynb");
  expect(files.there).toEqual({
    "course/monday/01_first_steps.ipynb": NOTEBOOK,
    "01_first_steps.ipynb": NOTEBOOK,
  });
});

test("what is there is kept, and nothing is fetched for it", async () => {
  const files = server({ "01_first_steps.ipynb": "mine" });
  const none = () => Promise.reject(new Error("it was fetched"));
  expect(await copyOf(FIRST, "", files, none)).toBe("01_first_steps.ipynb");
  expect(files.there).toEqual({ "01_first_steps.ipynb": "mine" });
});

test("a folder that may not be written to, a silent server and a missing file are told in words", async () => {
  const closed = server({}, answer(403, "Permission denied: x"));
  await expect(copyOf(FIRST, "locked", closed, load)).rejects.toThrow(
    "01_first_steps.ipynb cannot be written to locked: permission is denied. Open a folder that you may write to",
  );
  const full = server({}, answer(500, "No space left on device"));
  await expect(copyOf(FIRST, "", full, load)).rejects.toThrow(
    "the server’s folder: No space left on device. ",
  );
  const silent = { ...server(), get: () => Promise.reject(new TypeError("Failed to fetch")) };
  await expect(copyOf(FIRST, "", silent, load)).rejects.toThrow("the server does not answer");
  const nothing = async () => new Response("", { status: 404 });
  await expect(copyOf(FIRST, "", server(), nothing)).rejects.toThrow(
    "cannot be fetched: the server answers 404",
  );
  const page = async () => new Response("<html>", { status: 200 });
  await expect(copyOf(FIRST, "", server(), page)).rejects.toThrow("is no notebook");
});
