// Bundles the scripts into ../dist, which the Go binary embeds, and puts the icons and
// the font there. The charts are a chunk of their own: pages without one do not load
// them.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
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

// Of the icons, those that the pages name: an argument of Icon, a field Icon, or a
// word in a line about icons. The server writes them into its pages.
const { resolve } = createRequire(import.meta.url);
const icons = {};
const folder = new URL("../", import.meta.url).pathname;
for (const group of await readdir(folder, { withFileTypes: true })) {
  if (!group.isDirectory() || group.name === "ui") continue;
  for (const file of await readdir(folder + group.name)) {
    if (!/\.templ$|(?<!_templ)\.go$/.test(file)) continue;
    for (const line of (await readFile(folder + group.name + "/" + file, "utf8")).split("\n")) {
      if (!/icon/i.test(line)) continue;
      const must = [...line.matchAll(/\bIcon(?:\(|: *)"([^"]+)"/g)].map((m) => m[1]);
      for (const [, name] of line.matchAll(/"([a-z][a-z0-9-]*)"/g)) {
        let svg;
        try {
          svg = await readFile(resolve(`lucide-static/icons/${name}.svg`), "utf8");
        } catch (err) {
          if (must.includes(name)) throw new Error(`${group.name}/${file}: no icon is called ${name}`, { cause: err });
          continue;
        }
        icons[name] = svg.replace(/^[^]*?<svg[^>]*>|<\/svg>[^]*$/g, "").replace(/\s*\n\s*/g, "").replaceAll(" />", "/>");
      }
    }
  }
}
await writeFile(outdir + "icons.json", JSON.stringify(icons));
await writeFile(outdir + "icons.LEGAL.txt", await readFile(resolve("lucide-static/LICENSE")));

const font = await readFile(resolve("@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"));
await writeFile(outdir + `inter-${createHash("sha256").update(font).digest("hex").slice(0, 8)}.woff2`, font);
await writeFile(outdir + "inter.LEGAL.txt", await readFile(resolve("@fontsource-variable/inter/LICENSE")));
