import { beforeEach, describe, expect, it, vi } from "vitest";

import type { Actions } from "../src/actions";
import { Api, type Listing } from "../src/api";
import { Feed } from "../src/feed";
import { PanelView } from "../src/panel";
import { listing, run } from "./fake";

let feed: Feed;
let actions: { [name in keyof Actions]: ReturnType<typeof vi.fn> };
let panel: PanelView;

beforeEach(() => {
  feed = new Feed(new Api(() => new Promise(() => undefined)));
  actions = { wizard: vi.fn(), watch: vi.fn(), logs: vi.fn(), results: vi.fn(), stop: vi.fn(), clean: vi.fn() };
  panel = new PanelView(feed, actions as unknown as Actions);
  document.body.replaceChildren(panel.element);
});

function show(changes: Partial<Listing>): void {
  feed.listing = listing(changes);
  feed.phase = "live";
  panel.draw();
}

const shown = (selector: string): (string | null)[] =>
  [...panel.element.querySelectorAll<HTMLElement>(selector)]
    .filter((one) => !one.closest("[hidden]"))
    .map((one) => one.textContent);

function button(name: string): HTMLElement {
  const found = [...panel.element.querySelectorAll<HTMLElement>("button, a")].find(
    (one) => one.getAttribute("aria-label") === name,
  );
  if (!found) throw new Error(`no ${name}`);
  return found;
}

describe("the panel", () => {
  it("groups by state, what is alive first", () => {
    show({
      runs: [
        run({ id: "a", name: "done", title: "done", state: "succeeded", is_over: true, ended: 50 }),
        run({ id: "b", name: "api", title: "api", state: "ready", kind: "server" }),
        run({ id: "c", name: "queued", title: "queued", state: "waiting" }),
        run({ id: "d", name: "broken", title: "broken", state: "failed", is_over: true, ended: 60 }),
        run({ id: "e", name: "digits", title: "digits" }),
      ],
    });
    expect(shown(".gdp-title")).toEqual(["Ready servers", "Running", "Waiting", "Failed or lost", "Finished"]);
    expect(shown(".gdp-name")).toEqual(["api", "digits", "queued", "broken", "done"]);
  });

  it("says progress, use and cost, and nothing of what is not known", () => {
    show({ runs: [run({ cost: 1.5, currency: "EUR", best: { metric: "loss", value: 0.25, trial: 3 } })] });
    expect(shown(".gdp-facts")).toEqual(["sweep · 2 GPU 87% · best loss 0.25 · cost 1.50 EUR"]);
    expect(panel.element.querySelector("[role=progressbar]")?.getAttribute("aria-valuetext")).toBe(
      "5 of 12 · about 2 min left",
    );
    show({ runs: [run({ gpus: null, gpu_percent: null })] });
    expect(shown(".gdp-facts")).toEqual(["sweep"]);
  });

  it("offers only what goes, by names that say of which run", () => {
    show({ runs: [run({ can_stop: false, url: "http://127.0.0.1:8000/", kind: "server", state: "ready" })] });
    expect(shown(".gdp-tools > *")).toEqual(["Card", "Logs", "Open", "Copy URL"]);
    button("Logs of digits").click();
    expect(actions.logs).toHaveBeenCalledWith(feed.listing?.runs[0]);
    expect(button("Open digits").getAttribute("rel")).toBe("noopener noreferrer");
  });

  it.each(["javascript:alert(1)", "data:text/html,x", "//evil.example/", "file:///etc/passwd", "http://"])(
    "opens no %s",
    (url) => {
      show({ runs: [run({ url, kind: "server", state: "ready" })] });
      expect(shown(".gdp-tools > *")).toEqual(["Card", "Logs", "Stop…"]);
      expect(panel.element.querySelector("a")?.hasAttribute("href")).toBe(false);
    },
  );

  it("shows hostile names and reasons as text", () => {
    const text = "<img src=x onerror=alert(1)>";
    show({ runs: [run({ name: text, title: text, reason: text })], places: [bad(text)] });
    expect(panel.element.querySelector("img")).toBeNull();
    expect(shown(".gdp-name")).toEqual([text]);
  });

  it("says plainly which place it cannot see, and why", () => {
    show({ places: [bad("the token has expired")] });
    expect(shown(".gdp-problem")).toEqual(["Cannot see bcn/ml. the token has expired — oc login"]);
  });

  it("says how the server side is enabled", () => {
    feed.phase = "off";
    panel.draw();
    expect(panel.element.querySelector("[role=alert]")?.textContent).toContain(
      "jupyter server extension enable jupyter_gpudeploy.server",
    );
    expect(shown(".gdp-line button")).toEqual(["Try now"]);
  });

  it("says that it is stale and keeps what it knew", () => {
    show({});
    feed.phase = "stale";
    feed.problem = "the connection was closed";
    panel.draw();
    expect(shown(".gdp-status")[0]).toContain("Not up to date: the connection was closed");
    expect(shown(".gdp-name")).toEqual(["digits"]);
  });

  it("keeps the focus where a run moves to another group", () => {
    show({ runs: [run(), run({ id: "b", name: "other" })] });
    button("Logs of digits").focus();
    show({ runs: [run({ state: "succeeded", is_over: true, ended: 5 }), run({ id: "b", name: "other" })] });
    expect(document.activeElement?.getAttribute("aria-label")).toBe("Logs of digits");
  });

  it("shows of many ended runs the newest, and all when asked", () => {
    const runs = Array.from({ length: 30 }, (_, n) =>
      run({ id: `r${n}`, name: `r${n}`, title: "", state: "stopped", is_over: true, ended: n }),
    );
    show({ runs });
    expect([shown(".gdp-name").length, shown(".gdp-name")[0], shown(".gdp-more")]).toEqual([
      20,
      "r29",
      ["Show 10 more"],
    ]);
    panel.element.querySelector<HTMLElement>(".gdp-more")?.click();
    expect(shown(".gdp-name").length).toBe(30);
  });
});

function bad(problem: string): Listing["places"][number] {
  return { backend: "kubernetes", name: "bcn/ml", ok: false, problem, hint: "oc login" };
}
