/** The stores of the models that are there. */

import type { Model } from "./protocol";
import { Store } from "./store";

/** Shared by `initialize` and `render`, which are given different proxies of one model. */
const stores = new Map<string, Store>();

const uidOf = (model: Model): string => String(model.get("uid"));

export function storeOf(model: Model): Store {
  const uid = uidOf(model);
  let store = stores.get(uid);
  if (!store) stores.set(uid, (store = new Store(model)));
  return store;
}

/** Make the store of a new model; the returned function ends it. */
export function openStore(model: Model): () => void {
  const uid = uidOf(model);
  stores.get(uid)?.close();
  const store = new Store(model);
  stores.set(uid, store);
  return () => {
    store.close();
    if (stores.get(uid) === store) stores.delete(uid);
  };
}
