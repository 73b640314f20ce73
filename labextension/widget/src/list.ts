/** A long list of which only what can be seen is in the page. All rows have one height. */

import { h } from "./dom";

export interface Item {
  key: number;
}

const SPARE = 8;

export class List<T extends Item> {
  readonly element: HTMLElement;
  readonly #rows = h("div", { class: "gd-rows" });
  readonly #drawn = new Map<number, HTMLElement>();
  readonly #make: (item: T) => HTMLElement;
  #items: readonly T[] = [];
  #row = 18;
  /** Called when the top is near. */
  onTop: () => void = () => undefined;
  /** Called when a person has scrolled away from the end, or back to it. */
  onFollow: (isFollowing: boolean) => void = () => undefined;
  isFollowing = true;
  #ours = -1;

  constructor(make: (item: T) => HTMLElement, attributes: Record<string, string> = {}) {
    this.#make = make;
    this.element = h("div", { class: "gd-list", tabindex: "0", ...attributes }, this.#rows);
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  /** Show these items; what a person looks at stays where it is unless the end is followed. */
  draw(items: readonly T[]): void {
    const anchor = this.isFollowing || items === this.#items ? null : this.#anchor();
    this.#items = items;
    this.#measure();
    this.#rows.style.height = `${items.length * this.#row}px`;
    if (this.isFollowing) this.#scrollTo(items.length * this.#row);
    else if (anchor) {
      const place = items.findIndex(({ key }) => key === anchor.key);
      if (place >= 0) this.#scrollTo(place * this.#row + anchor.into);
    }
    this.#fill();
  }

  /** Bring this item to the middle. */
  reveal(place: number): void {
    this.isFollowing = false;
    this.#scrollTo((place + 0.5) * this.#row - this.element.clientHeight / 2);
    this.#fill();
  }

  follow(): void {
    this.isFollowing = true;
    this.#scrollTo(this.#items.length * this.#row);
    this.#fill();
  }

  /** Forget how items were drawn, because they look different now. */
  refresh(): void {
    for (const element of this.#drawn.values()) element.remove();
    this.#drawn.clear();
  }

  #anchor(): { key: number; into: number } | null {
    const place = Math.floor(this.element.scrollTop / this.#row);
    const item = this.#items[place];
    return item ? { key: item.key, into: this.element.scrollTop - place * this.#row } : null;
  }

  #scrollTo(top: number): void {
    this.element.scrollTop = top;
    this.#ours = this.element.scrollTop;
  }

  #scrolled(): void {
    this.#fill();
    if (this.element.clientHeight === 0) return;
    const isOurs = Math.abs(this.element.scrollTop - this.#ours) < 1;
    const left = this.element.scrollHeight - this.element.clientHeight - this.element.scrollTop;
    const isAtEnd = left < this.#row * 1.5;
    if (!isOurs && isAtEnd !== this.isFollowing) {
      this.isFollowing = isAtEnd;
      this.onFollow(isAtEnd);
    }
    if (!isOurs && this.element.scrollTop < this.#row * 12) this.onTop();
  }

  #measure(): void {
    const first = this.#rows.firstElementChild;
    const height = first instanceof HTMLElement ? first.offsetHeight : 0;
    if (height > 0) this.#row = height;
  }

  #fill(): void {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.#row) - SPARE);
    const last = Math.min(
      this.#items.length,
      Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.#row) + SPARE,
    );
    const wanted = new Map<number, number>();
    for (let place = first; place < last; place++) wanted.set(this.#items[place]!.key, place);
    for (const [key, element] of this.#drawn) {
      if (wanted.has(key)) continue;
      element.remove();
      this.#drawn.delete(key);
    }
    for (const [key, place] of wanted) {
      let element = this.#drawn.get(key);
      if (!element) {
        element = this.#make(this.#items[place]!);
        this.#drawn.set(key, element);
        this.#rows.append(element);
      }
      const top = `translateY(${place * this.#row}px)`;
      if (element.style.transform !== top) element.style.transform = top;
    }
  }
}
