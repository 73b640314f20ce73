/** Draw at most once a frame, and nothing while it cannot be seen. */

export class Painter {
  #dirty = new Set<string>();
  #frame = 0;
  #isOpen = true;
  isSeen: () => boolean = () => true;
  readonly #draw: (parts: ReadonlySet<string>) => void;

  constructor(draw: (parts: ReadonlySet<string>) => void) {
    this.#draw = draw;
  }

  /** Have these parts drawn in the next frame, or when they can be seen again. */
  want(...parts: string[]): void {
    for (const part of parts) this.#dirty.add(part);
    this.wake();
  }

  wake(): void {
    if (this.#frame || !this.#isOpen || !this.#dirty.size || !this.isSeen()) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const parts = this.#dirty;
      this.#dirty = new Set();
      this.#draw(parts);
    });
  }

  close(): void {
    this.#isOpen = false;
    cancelAnimationFrame(this.#frame);
  }
}
