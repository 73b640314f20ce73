/** The colours of the page, for canvases: read from the style of the card, and again when the theme changes. */

export interface Colours {
  text: string;
  quiet: string;
  grid: string;
  surface: string;
  accent: string;
  font: string;
}

export function readColours(element: Element): Colours {
  const style = getComputedStyle(element);
  const of = (name: string, otherwise: string): string => style.getPropertyValue(name).trim() || otherwise;
  return {
    text: of("--gd-text", "#1f2328"),
    quiet: of("--gd-quiet", "#656d76"),
    grid: of("--gd-grid", "rgba(128,128,128,.2)"),
    surface: of("--gd-surface", "#ffffff"),
    accent: of("--gd-accent", "#3b82f6"),
    font: style.fontFamily || "system-ui, sans-serif",
  };
}

/** Whether a colour is dark; null for what is no colour that we can read. */
export function isDark(colour: string): boolean | null {
  const parts = /^rgba?\(\s*([\d.]+)[ ,]+([\d.]+)[ ,]+([\d.]+)(?:[ ,/]+([\d.]+))?/.exec(colour);
  if (!parts || (parts[4] !== undefined && Number(parts[4]) < 0.5)) return null;
  const [red, green, blue] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
}

/** Return whether the page behind an element is dark. */
export function pageIsDark(element: Element): boolean {
  for (let each: Element | null = element; each; each = each.parentElement) {
    const found = isDark(getComputedStyle(each).backgroundColor);
    if (found !== null) return found;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Call when the theme may have changed; the returned function ends it. */
export function onThemeChange(changed: () => void): () => void {
  const later = (): void => {
    setTimeout(changed, 60);
    setTimeout(changed, 600); // the new theme's style sheet may still be loading
  };
  const observer = new MutationObserver(later);
  const attributes = {
    attributes: true,
    attributeFilter: ["class", "data-jp-theme-name", "data-jp-theme-light", "data-vscode-theme-kind", "style"],
  };
  observer.observe(document.body, attributes);
  observer.observe(document.documentElement, attributes);
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", later);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", later);
  };
}
