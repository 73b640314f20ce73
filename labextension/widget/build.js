// One ES module and one style sheet, with everything in them: the card works offline.
import { build } from "esbuild";

await build({
  entryPoints: [
    { in: "src/main.ts", out: "card" },
    { in: "src/card.css", out: "card" },
  ],
  outdir: "../../jupyter_gpudeploy/notebook/static",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "inline",
  logLevel: "warning",
});
