import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Api } from "../src/api";
import { Feed } from "../src/feed";
import { json, listing, Stream } from "./fake";

let asked: string[];
let answers: (() => Response | Promise<Response>)[];
let feed: Feed;

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  answers = [];
  const api = new Api((path) => {
    asked.push(path);
    const answer = answers.shift();
    return answer ? Promise.resolve(answer()) : Promise.reject(new TypeError("Failed to fetch"));
  });
  feed = new Feed(api, 2);
});

afterEach(() => {
  feed.close();
  vi.useRealTimers();
});

const soon = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe("the feed", () => {
  it("is live with what the stream says", async () => {
    const stream = new Stream();
    answers.push(() => stream.response);
    feed.open();
    stream.say(listing());
    await soon();
    expect([feed.phase, feed.listing?.runs[0]?.name, asked]).toEqual(["live", "digits", ["changes?every=2"]]);
  });

  it("says that it is stale, keeps what it knows and comes back", async () => {
    const [first, second] = [new Stream(), new Stream()];
    answers.push(
      () => first.response,
      () => second.response,
    );
    feed.open();
    first.say(listing());
    await soon();
    first.end();
    await soon();
    expect([feed.phase, feed.listing?.runs.length, feed.problem]).toEqual(["stale", 1, "the connection was closed"]);
    second.say(listing({ runs: [] }));
    await soon(1100);
    expect([feed.phase, feed.listing?.runs.length]).toEqual(["live", 0]);
  });

  it("tries ever more rarely, at most every 30 s", async () => {
    feed.open();
    await soon(0);
    const counts: number[] = [];
    for (const ms of [1100, 2100, 4100, 8100, 16_100, 30_100, 30_100]) {
      const before = asked.length;
      await soon(ms);
      counts.push(asked.length - before);
    }
    expect(counts).toEqual([1, 1, 1, 1, 1, 1, 1]);
  });

  it("tells a server without our side from one that is silent", async () => {
    answers.push(() => json({ message: "Not Found" }, 404));
    feed.open();
    await soon();
    expect(feed.phase).toBe("off");
  });

  it("tells a person who is not signed in", async () => {
    answers.push(() => json({ message: "Forbidden" }, 403));
    feed.open();
    await soon();
    expect(feed.phase).toBe("refused");
  });

  it("looks once in a while where no stream is free", async () => {
    answers.push(
      () => json({ message: "too many pages watch already" }, 503),
      () => json(listing()),
    );
    feed.open();
    await soon();
    expect([feed.phase, asked]).toEqual(["live", ["changes?every=2", "runs"]]);
    await soon(5100);
    expect(asked.length).toBe(3);
  });

  it("does not trust a connection in which nothing is said any more", async () => {
    const stream = new Stream();
    answers.push(() => stream.response);
    feed.open();
    stream.say(listing());
    await soon();
    await soon(39_000);
    expect(feed.phase).toBe("live");
    await soon(1000);
    expect([feed.phase, feed.problem]).toEqual(["stale", "the server has fallen silent"]);
  });

  it("asks nothing once it is closed", async () => {
    feed.open();
    await soon();
    feed.close();
    const before = asked.length;
    await soon(120_000);
    expect([asked.length - before, feed.phase]).toEqual([0, "idle"]);
  });
});
