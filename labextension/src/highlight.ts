/** `%%deploy` cells in their colours: YAML above the line `---`, Python below, changing while one types. */

import { defineLanguageFacet, Language, languageDataProp } from "@codemirror/language";
import { Compartment, EditorState, type Extension, Prec, type TransactionSpec } from "@codemirror/state";
import {
  type Input,
  NodeSet,
  NodeType,
  Parser,
  type ParseWrapper,
  type PartialParse,
  parseMixed,
  type SyntaxNodeRef,
  Tree,
  type TreeFragment,
} from "@lezer/common";
import { styleTags, tags } from "@lezer/highlight";

import { isDeploy, parts } from "./cells";

const facet = defineLanguageFacet({ commentTokens: { line: "#" } });
const names = ["Cell", "Magic", "Header", "Mark", "Code"] as const;
const types = new NodeSet(
  names.map((name, id) =>
    NodeType.define({ id, name, top: id === 0, props: id === 0 ? [[languageDataProp, facet]] : [] }),
  ),
).extend(styleTags({ Magic: tags.processingInstruction, Mark: tags.contentSeparator })).types;

function node(name: (typeof names)[number]): NodeType {
  return types[names.indexOf(name)] ?? NodeType.none;
}

/** Parses a whole cell at once: it is short, and only its lines matter; what lies inside is parsed by the others. */
class CellParser extends Parser {
  readonly #wrap: ParseWrapper;

  constructor(yaml: Parser, python: Parser) {
    super();
    this.#wrap = parseMixed((at: SyntaxNodeRef) =>
      at.name === "Header" ? { parser: yaml } : at.name === "Code" ? { parser: python } : null,
    );
  }

  override createParse(
    input: Input,
    fragments: readonly TreeFragment[],
    ranges: readonly { from: number; to: number }[],
  ): PartialParse {
    return this.#wrap(new CellParse(input), input, fragments, ranges);
  }
}

class CellParse implements PartialParse {
  readonly #input: Input;
  parsedPos = 0;
  stoppedAt: number | null = null;

  constructor(input: Input) {
    this.#input = input;
  }

  advance(): Tree {
    const text = this.#input.read(0, this.#input.length);
    this.parsedPos = text.length;
    return divide(text);
  }

  stopAt(at: number): void {
    this.stoppedAt = at;
  }
}

/** Return the outer tree of a cell. */
export function divide(text: string): Tree {
  const { magic, header, code } = parts(text);
  const children: Tree[] = [];
  const positions: number[] = [];
  const put = (name: (typeof names)[number], from: number, to: number): void => {
    if (to <= from) return;
    children.push(new Tree(node(name), [], [], to - from));
    positions.push(from);
  };
  put("Magic", 0, magic);
  put("Header", magic + 1, header);
  put("Mark", header, code);
  put("Code", code + 1, text.length);
  return new Tree(node("Cell"), children, positions, text.length);
}

/** Return the language of `%%deploy` cells. */
export function cellLanguage(yaml: Parser, python: Parser): Language {
  return new Language(facet, new CellParser(yaml, python), [], "gpudeploy");
}

/** Return what makes an editor follow its first line: our language over the notebook's, or nothing. */
export function following(language: Language, text: string): Extension {
  const place = new Compartment();
  const content = (isOurs: boolean): Extension => (isOurs ? Prec.highest(language.extension) : []);
  return [
    place.of(content(isDeploy(text))),
    EditorState.transactionExtender.of((transaction): Pick<TransactionSpec, "effects"> | null => {
      if (!transaction.docChanged) return null;
      const [was, is] = [firstLine(transaction.startState), isDeploy(transaction.newDoc.line(1).text)];
      return was === is ? null : { effects: place.reconfigure(content(is)) };
    }),
  ];
}

function firstLine(state: EditorState): boolean {
  return isDeploy(state.doc.line(1).text);
}
