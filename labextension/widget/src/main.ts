/** The anywidget module of the card. */

import { CardView } from "./card";
import type { Model } from "./protocol";
import { openStore, storeOf } from "./stores";

interface Given {
  model: Model;
  el: HTMLElement;
}

/** Once for each model, before any of its views. */
function initialize({ model }: { model: Model }): () => void {
  return openStore(model);
}

/** Once for each view; the returned function ends it. */
function render({ model, el }: Given): () => void {
  const view = new CardView(storeOf(model));
  el.append(view.element);
  view.open();
  return () => view.close();
}

export default { initialize, render };
