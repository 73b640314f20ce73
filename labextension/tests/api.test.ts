import { describe, expect, it } from "vitest";

import { Api, ApiError, events } from "../src/api";
import { json, listing, Stream } from "./fake";

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of from) found.push(one);
  return found;
}

describe("the requests", () => {
  it("never let an id leave its place in the path", async () => {
    const asked: string[] = [];
    const api = new Api((path) => {
      asked.push(path);
      return Promise.resolve(json({}));
    });
    await api.stop("../../api/shutdown?x#y");
    expect(asked).toEqual(["runs/..%2F..%2Fapi%2Fshutdown%3Fx%23y/stop"]);
  });

  it("change things by POST alone, with a body", async () => {
    const asked: (RequestInit & { path: string })[] = [];
    const api = new Api((path, init) => {
      asked.push({ path, ...init });
      return Promise.resolve(json({ cleaned: ["a"], kept: [] }));
    });
    await api.clean(["a"]);
    await api.stop("a");
    await api.runs();
    expect(asked.map(({ method, body }) => [method, body])).toEqual([
      ["POST", '{"ids":["a"]}'],
      ["POST", "{}"],
      [undefined, undefined],
    ]);
  });

  it("say what the server said, and its way out", async () => {
    const api = new Api(() => Promise.resolve(json({ message: "gone", hint: "look again" }, 404)));
    await expect(api.runs()).rejects.toMatchObject({ status: 404, message: "gone", hint: "look again" });
  });

  it("say that nothing answers", async () => {
    const api = new Api(() => Promise.reject(new TypeError("Failed to fetch")));
    await expect(api.runs()).rejects.toEqual(new ApiError(0, "the Jupyter server does not answer"));
  });
});

describe("server-sent events", () => {
  it("are whole however the bytes are cut", async () => {
    const stream = new Stream();
    const text = `: still here\n\nevent: listing\ndata: ${JSON.stringify(listing())}\n\n`;
    for (const letter of text) stream.send(letter);
    stream.end();
    const found = await all(events(stream.response.body!));
    expect(found.map(({ event, data }) => [event, JSON.parse(data) as unknown])).toEqual([["listing", listing()]]);
  });

  it("count comments as a sign of life", async () => {
    const stream = new Stream();
    let beats = 0;
    stream.send(": still here\n\n");
    stream.end();
    expect(await all(events(stream.response.body!, () => (beats += 1)))).toEqual([]);
    expect(beats).toBe(1);
  });
});
