import { readFileSync } from "node:fs";
import { resolve } from "node:path";

import { pythonLanguage } from "@codemirror/lang-python";
import { StreamLanguage } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { language as facet } from "@codemirror/language";
import { yaml } from "@codemirror/legacy-modes/mode/yaml";
import { describe, expect, it } from "vitest";

import { isDeploy } from "../src/cells";
import { cellLanguage, divide, following } from "../src/highlight";
import { line, wizardLine } from "../src/lines";
import { TOUR } from "../src/tour";

const CELL = "%%deploy x\nlr: 0.1  # step\n---\nlr = 0.1\n";

function outer(text: string): [string, string][] {
  const found: [string, string][] = [];
  divide(text).iterate({
    enter: (node) => {
      if (node.name !== "Cell") found.push([node.name, text.slice(node.from, node.to)]);
    },
  });
  return found;
}

describe("a %%deploy cell", () => {
  it("is known by its first word", () => {
    expect(["%%deploy", "%%deploy x", "%%deployment", " %%deploy", "x\n%%deploy"].map(isDeploy)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  it("is divided where the parser of cells divides it", () => {
    expect(outer(CELL)).toEqual([
      ["Magic", "%%deploy x"],
      ["Header", "lr: 0.1  # step\n"],
      ["Mark", "---"],
      ["Code", "lr = 0.1\n"],
    ]);
    expect(outer("%%deploy\n---  \nx = '---'\n---\n").map(([name]) => name)).toEqual(["Magic", "Mark", "Code"]);
    expect(outer("%%deploy\nenv: {A: ---b}\n----\n").map(([name]) => name)).toEqual(["Magic", "Header"]);
    expect(outer("%%deploy")).toEqual([["Magic", "%%deploy"]]);
  });

  it("has both languages inside", () => {
    const ours = cellLanguage(StreamLanguage.define(yaml).parser, pythonLanguage.parser);
    const tree = ours.parser.parse(CELL);
    expect(tree.resolveInner(CELL.indexOf("= 0.1"), 1).name).toBe("AssignOp");
    expect(tree.resolveInner(CELL.indexOf("# step") + 1, 1).name).toMatch(/comment/i);
  });

  it("changes its language while one types, and back", () => {
    const ours = cellLanguage(StreamLanguage.define(yaml).parser, pythonLanguage.parser);
    let state = EditorState.create({ doc: "", extensions: [following(ours, ""), pythonLanguage.extension] });
    const seen: (string | undefined)[] = [];
    const look = (): unknown => seen.push(state.facet(facet)?.name);
    look();
    for (const letter of "%%deploy")
      state = state.update({ changes: { from: state.doc.length, insert: letter } }).state;
    look();
    state = state.update({ changes: { from: 0, to: 1 } }).state;
    look();
    expect(seen).toEqual(["python", "gpudeploy", "python"]);
  });
});

describe("lines for cells", () => {
  const here = { backend: "local", place: "this machine" };

  it("name the place where it is a cluster", () => {
    expect(line("watch", { name: "digits", ...here })).toBe("%deploy watch digits");
    expect(line("watch", { name: "digits", backend: "kubernetes", place: "bcn/ml" })).toBe(
      "%deploy watch digits --backend kubernetes --cluster bcn --namespace ml",
    );
  });

  it.each(["a\nimport os", "a; rm", "$(x)", "--all", "{x}", "", "a b"])("carry no %j", (name) => {
    expect(line("watch", { name, ...here })).toBeNull();
  });

  it("open the form with the backend of the settings, if it is a word", () => {
    expect(["", "local", "x\ny"].map(wizardLine)).toEqual([
      "%deploy wizard",
      "%deploy wizard --backend local",
      "%deploy wizard",
    ]);
  });
});

describe("the tour", () => {
  it("is the one of the README", () => {
    const readme = readFileSync(resolve(import.meta.dirname, "../../README.md"), "utf-8");
    const tour = readme.slice(readme.indexOf("## A tour"), readme.indexOf("## What you see"));
    const codes = [...tour.matchAll(/```python\n(.*?)\n```/gs)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(4);
    expect(TOUR.flatMap((one) => ("code" in one ? [one.code] : []))).toEqual(expect.arrayContaining(codes));
  });
});
