/** Elements made of text nodes and attributes that we know. Nothing here reads HTML. */

export type Child = Node | string | null | undefined | false;

type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

/** Return a new element. `on...` are listeners, true is an empty attribute, false and null none. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

/** Set a text, and touch nothing when it is as before. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, and touch nothing when it is as before; null takes it away. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function show(element: HTMLElement, isShown: boolean): void {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/** Return an address that may be opened; only http and https may. */
export function safeUrl(text: string | null | undefined): string | null {
  if (!text || !/^https?:\/\//i.test(text)) return null;
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

let made = 0;

/** Return an id that no other element of the page has. */
export function newId(what: string): string {
  return `gpudeploy-${what}-${++made}-${Math.random().toString(36).slice(2, 8)}`;
}

/** Copy a text; pages that are not served securely have no clipboard of their own. */
export async function copy(text: string, near: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "gd-unseen", "aria-hidden": "true", tabindex: -1 });
    area.value = text;
    near.append(area);
    area.select();
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way on a page without a clipboard
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Return a button that copies what `text` returns, and says so. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const button: HTMLButtonElement = h("button", {
    type: "button",
    class: "gd-button",
    onclick: () => {
      void copy(text(), button.parentElement ?? button).then((done) => {
        setText(button, done ? "Copied" : "Could not copy");
        button.focus({ preventScroll: true });
        setTimeout(() => setText(button, label), 1500);
      });
    },
  });
  button.append(label);
  return button;
}
