/** How a `%%deploy` cell is divided: its first line, the header, the line `---`, the program. */

export interface Parts {
  readonly magic: number;
  /** Where the header ends and the line `---` begins and ends; equal where there is none. */
  readonly header: number;
  readonly code: number;
}

/** Return whether the text is a cell with a header. */
export function isDeploy(text: string): boolean {
  return /^%%deploy(?=\s|$)/.test(text);
}

/** Return the ends of the parts, as offsets into the text. */
export function parts(text: string): Parts {
  const first = text.indexOf("\n");
  const magic = first < 0 ? text.length : first;
  const mark = /^---[^\S\n]*$/gm;
  mark.lastIndex = magic + 1;
  const found = first < 0 ? null : mark.exec(text);
  return found
    ? { magic, header: found.index, code: found.index + found[0].length }
    : { magic, header: text.length, code: text.length };
}
