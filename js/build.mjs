// Builds both outputs with esbuild alone: the widget (one ESM bundle for anywidget) and the prebuilt JupyterLab extension.
//
// JupyterLab's own builder brings 474 MB of packages for what is a small container: JupyterLab loads the script that
// package.json names under `_build.load`, then calls `window._JUPYTERLAB[name].init(shared)` and `.get("./extension")`.
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { argv } from "node:process";
import esbuild from "esbuild";

const watch = argv.includes("--watch");
const pkg = JSON.parse(readFileSync("package.json", "utf8"));
const common = {
  bundle: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  minify: !watch,
};

const widget = {
  ...common,
  entryPoints: { widget: "src/widget/index.tsx" },
  outdir: "../steerlab/static",
  format: "esm",
  sourcemap: watch ? "inline" : false,
  logLevel: "info",
};

async function extension(outdir) {
  const shared = new Set();
  const fromJupyterLab = {
    name: "from-jupyterlab",
    setup(build) {
      build.onResolve({ filter: /^@(jupyterlab|lumino)\// }, ({ path }) => {
        shared.add(path);
        return { path, namespace: "shared" };
      });
      build.onLoad({ filter: /.*/, namespace: "shared" }, ({ path }) => ({
        contents: `module.exports = __shared[${JSON.stringify(path)}]`,
      }));
    },
  };
  const built = await esbuild.build({
    ...common,
    entryPoints: ["src/lab/index.ts"],
    write: false,
    format: "iife",
    globalName: "__extension",
    loader: { ".css": "text" }, // a sheet of our own is put into the page by the plugin that needs it
    plugins: [fromJupyterLab],
    define: { TUTORIALS: JSON.stringify(tutorials()) },
  });
  const code = container(pkg.name, [...shared].sort(), built.outputFiles[0].text);
  const hash = createHash("sha256").update(code).digest("hex").slice(0, 16);
  const load = `static/remoteEntry.${hash}.js`;
  rmSync(outdir, { recursive: true, force: true });
  mkdirSync(`${outdir}/static`, { recursive: true });
  writeFileSync(`${outdir}/${load}`, code);
  mkdirSync(`${outdir}/tutorials`);
  for (const { file } of tutorials()) copyFileSync(`../examples/${file}`, `${outdir}/tutorials/${file}`);
  const { name, version, description, license, author } = pkg;
  const { schemaDir } = pkg.jupyterlab;
  cpSync(schemaDir, `${outdir}/schemas/${name}`, { recursive: true }); // a file for each plugin that has settings
  const jupyterlab = { extension: true, schemaDir, _build: { load, extension: "./extension" } };
  writeFileSync(
    `${outdir}/package.json`,
    `${JSON.stringify({ name, version, description, license, author, jupyterlab }, null, 2)}\n`,
  );
}

// The notebooks whose names begin with a number, by which they are known, and what their first headings call them.
function tutorials() {
  const files = readdirSync("../examples").filter((name) => /^\d\d_.*\.ipynb$/.test(name));
  return files.sort().map((file) => {
    const { cells } = JSON.parse(readFileSync(`../examples/${file}`, "utf8"));
    const words = cells
      .filter((cell) => cell.cell_type === "markdown")
      .map(({ source }) => [source].flat().join(""));
    const [, title] = words.join("\n").match(/^# +(.+)$/m) ?? [];
    if (!title) throw new Error(`examples/${file} has no heading that could be its title`);
    return { file, number: Number(file.slice(0, 2)), title: title.trim() };
  });
}

// What webpack's module federation would write: take the shared packages out of JupyterLab's scope, then run our module.
function container(name, shared, module) {
  return `"use strict";(() => {
let scope;
const newest = (versions) => {
  const names = Object.keys(versions).sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  return versions[names.find((v) => versions[v].loaded) ?? names.at(-1)];
};
const take = async (pkg) => {
  if (!scope[pkg]) throw new Error(${JSON.stringify(name)} + ": JupyterLab does not share " + pkg);
  return [pkg, (await newest(scope[pkg]).get())()];
};
(window._JUPYTERLAB ??= {})[${JSON.stringify(name)}] = {
  init: (shared) => { scope = shared; },
  get: async (module) => {
    if (module !== "./extension") throw new Error("no module " + module);
    const __shared = Object.fromEntries(await Promise.all(${JSON.stringify(shared)}.map(take)));
    return () => { ${module}
return __extension; };
  },
};
})();
`;
}

await extension(pkg.jupyterlab.outputDir);
if (watch) await (await esbuild.context(widget)).watch();
else await esbuild.build(widget);
