// Bundles the scripts into ../dist, which the Go binary embeds. The charts are
// a chunk of their own: pages without one do not load them.
import { build } from "esbuild";
import { readdir, rm } from "node:fs/promises";

const outdir = new URL("../dist/", import.meta.url).pathname;
for (const name of await readdir(outdir)) if (name !== ".gitkeep") await rm(outdir + name, { recursive: true });
await build({
  entryPoints: [new URL("app.js", import.meta.url).pathname],
  outdir, bundle: true, minify: true, format: "esm", splitting: true, target: "es2022",
  chunkNames: "[name]-[hash]", legalComments: "linked", logLevel: "warning",
});
