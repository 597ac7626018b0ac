// Bundles the scripts into ../dist, which the Go binary embeds. The charts are
// a chunk of their own: pages without one do not load them.
import { build } from "esbuild";
import { readFile, readdir, rm, writeFile } from "node:fs/promises";
import { brotliCompressSync, gzipSync } from "node:zlib";

const outdir = new URL("../dist/", import.meta.url).pathname;
for (const name of await readdir(outdir)) if (name !== ".gitkeep") await rm(outdir + name, { recursive: true });
await build({
  entryPoints: [new URL("app.js", import.meta.url).pathname],
  outdir, bundle: true, minify: true, format: "esm", splitting: true, target: "es2022",
  chunkNames: "[name]-[hash]", legalComments: "linked", logLevel: "warning",
});

// The server sends these as they are.
for (const name of await readdir(outdir)) {
  if (!name.endsWith(".js")) continue;
  const body = await readFile(outdir + name);
  await writeFile(outdir + name + ".br", brotliCompressSync(body));
  await writeFile(outdir + name + ".gz", gzipSync(body, { level: 9 }));
}
