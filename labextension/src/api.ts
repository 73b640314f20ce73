/** What the server extension answers, and the requests for it. Nothing here knows JupyterLab: a transport is given. */

export interface Progress {
  readonly total: number;
  readonly done: number;
  readonly running: number;
  readonly waiting: number;
  readonly failed: number;
}

export interface Run {
  readonly id: string;
  readonly name: string;
  readonly title: string;
  readonly kind: string;
  readonly backend: string;
  readonly place: string;
  readonly state: string;
  readonly reason: string;
  readonly is_over: boolean;
  readonly created: number | null;
  readonly started: number | null;
  readonly ended: number | null;
  readonly progress: Progress;
  readonly remaining_s: number | null;
  readonly gpus: number | null;
  readonly gpu_percent: number | null;
  readonly cpu_percent: number | null;
  readonly memory_bytes: number | null;
  readonly cost: number | null;
  readonly currency: string | null;
  readonly is_idle: boolean;
  readonly url: string | null;
  readonly best: { readonly metric: string; readonly value: number; readonly trial: number } | null;
  readonly can_stop: boolean;
  readonly can_clean: boolean;
  readonly read_only: boolean;
  readonly stop_costs: string;
}

/** Somewhere runs lie: this machine, or a namespace of a cluster. */
export interface Place {
  readonly backend: string;
  readonly name: string;
  readonly ok: boolean;
  readonly problem: string;
  readonly hint: string;
}

export interface Listing {
  readonly api: number;
  readonly version: string;
  readonly time: number;
  readonly runs: readonly Run[];
  readonly places: readonly Place[];
}

export interface LogPart {
  readonly task: number;
  readonly attempt: number;
  readonly tasks: readonly { readonly number: number; readonly name: string; readonly state: string }[];
  readonly text: string;
  readonly from: number;
  readonly to: number;
  readonly size: number;
  readonly cut: boolean;
}

export type Cell = string | number | boolean | null;

export interface Results {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  readonly total: number;
  readonly sorted_by: string | null;
}

export interface Cleaned {
  readonly cleaned: readonly string[];
  readonly kept: readonly { readonly id: string; readonly reason: string }[];
}

/** Sends one request to `<base url>gpudeploy/api/<path>` with the rules of the front end (token, cookie, XSRF). */
export type Transport = (path: string, init: RequestInit) => Promise<Response>;

/** An answer that is none: `status` 0 where nothing answered at all. */
export class ApiError extends Error {
  readonly status: number;
  readonly hint: string;

  constructor(status: number, message: string, hint = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.hint = hint;
  }
}

export class Api {
  readonly #send: Transport;

  constructor(send: Transport) {
    this.#send = send;
  }

  async runs(): Promise<Listing> {
    return (await this.#json("runs")) as Listing;
  }

  async run(id: string): Promise<Run> {
    return (await this.#json(`runs/${encodeURIComponent(id)}`)) as Run;
  }

  /** Return what is new of a task's log since byte `from` of an attempt; -1 is its end. No task: the first one. */
  async log(id: string, task: number | null, from: number, attempt: number | null = null): Promise<LogPart> {
    const query = new URLSearchParams({ from: String(from) });
    if (task !== null) query.set("task", String(task));
    if (attempt !== null) query.set("attempt", String(attempt));
    return (await this.#json(`runs/${encodeURIComponent(id)}/log?${query.toString()}`)) as LogPart;
  }

  async results(id: string): Promise<Results> {
    return (await this.#json(`runs/${encodeURIComponent(id)}/results`)) as Results;
  }

  async stop(id: string): Promise<void> {
    await this.#json(`runs/${encodeURIComponent(id)}/stop`, {});
  }

  async clean(ids: readonly string[]): Promise<Cleaned> {
    return (await this.#json("clean", { ids })) as Cleaned;
  }

  /** Yield each listing as it comes, until the server or `signal` ends the stream; `beat` hears all that comes. */
  async *changes(every: number, signal: AbortSignal, beat: () => void = () => undefined): AsyncGenerator<Listing> {
    const answer = await this.#ask(`changes?every=${encodeURIComponent(String(every))}`, {
      signal,
      headers: { Accept: "text/event-stream" },
    });
    if (!answer.body) throw new ApiError(0, "the server ended the stream of changes");
    for await (const { event, data } of events(answer.body, beat)) {
      if (event === "listing") yield JSON.parse(data) as Listing;
    }
  }

  async #json(path: string, body?: unknown): Promise<unknown> {
    const init: RequestInit = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const answer = await this.#ask(path, init);
    return answer.json();
  }

  async #ask(path: string, init: RequestInit): Promise<Response> {
    let answer: Response;
    try {
      answer = await this.#send(path, init);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(0, "the Jupyter server does not answer");
    }
    if (answer.ok) return answer;
    const said = (await answer.json().catch(() => ({}))) as { message?: unknown; hint?: unknown };
    const text = (value: unknown): string => (typeof value === "string" ? value : "");
    throw new ApiError(answer.status, text(said.message) || `the server answered ${answer.status}`, text(said.hint));
  }
}

/** Read server-sent events out of a body: blocks of `event:` and `data:` lines, ended by an empty line. */
export async function* events(
  body: ReadableStream<Uint8Array>,
  beat: () => void = () => undefined,
): AsyncGenerator<{ event: string; data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      beat();
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const found = { event: "message", data: [] as string[] };
        for (const line of block.split("\n")) {
          if (line.startsWith("event:")) found.event = line.slice(6).trim();
          if (line.startsWith("data:")) found.data.push(line.slice(5).trimStart());
        }
        if (found.data.length) yield { event: found.event, data: found.data.join("\n") };
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
