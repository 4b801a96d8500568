/**
 * Rank processes for integration tests: started from a fixture, they say what happens as JSON lines on stdout
 * (`{"event": "formed", ...}`) and take commands as JSON lines on stdin.
 *
 *     const ranks = startRanks('rendezvous/rank.mjs', 4, (rank) => ({ args: [String(rank)] }));
 *     ranks[0].send({ do: 'join' });
 *     const formed = await all(ranks, 'formed', 5_000);
 *
 * Whatever is started inside a test is killed when that test ends; if it failed, its output is printed.
 * Outside a test (beforeAll), call kill() yourself.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { onTestFailed, onTestFinished } from 'vitest';
import { onHostOf } from './spread.ts';

// biome-ignore lint/suspicious/noExplicitAny: what a fixture says is its own affair
export type RankEvent = { event: string } & Record<string, any>;

export interface RankOptions {
  args?: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** More descriptors for the process, from 3 on. */
  fds?: readonly number[];
  /** Instead of Node itself, e.g. `['strace', '-f', process.execPath]`. */
  command?: readonly string[];
  /** Name in messages. */
  name?: string;
  /** Whose host it is on where ranks are spread over hosts (spread.ts), and there is no `command`. Default 0. */
  rank?: number;
}

/**
 * `nccl` where the groups of a suite are to be formed over the stand-ins (vitest.config.ts's projects `nccl` and `rccl`):
 * every process then has a device of its own. Undefined otherwise.
 */
export const testBackend = process.env['NC_TEST_BACKEND'] as 'nccl' | undefined;
const testDevices = Number(process.env['NC_STANDIN_DEVICES'] ?? 8);
let started = 0;

/** What runs the processes, where a checker is to (scripts/sanitized.mjs): its words, separated by blanks. */
const wrapper = process.env['NC_RANK_WRAPPER']?.split(' ') ?? [];
/** It makes them slow, as sanitizers do: what a test waits for may take so many times as long. */
const patience = process.env['NC_SANITIZED'] === undefined ? 1 : 5;

export class RankProcess {
  readonly child: ChildProcess;
  readonly name: string;
  /** Events that came and were not taken by next(), oldest first. */
  readonly events: RankEvent[] = [];
  /** Everything it wrote, stdout and stderr together. */
  output = '';
  /** Resolves when the process is gone and its output has been read. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #ended: string | undefined;
  #wake = new Set<() => void>();

  constructor(fixture: string, options: RankOptions = {}) {
    const [file = process.execPath, ...before] = options.command ?? wrapper;
    const path = fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url));
    const spawned = (): SpawnOptions => ({
      env: {
        ...process.env,
        ...(testBackend && { LOCAL_RANK: String(started++ % testDevices) }),
        ...options.env,
      },
      stdio: ['pipe', 'pipe', 'pipe', ...(options.fds ?? [])],
    });
    this.name = options.name ?? fixture;
    // The environment is the one that the host's network has made.
    const start = () => spawn(file, [...before, path, ...(options.args ?? [])], spawned());
    this.child = options.command === undefined ? onHostOf(options.rank ?? 0, start) : start();
    this.child.stdin?.on('error', () => {}); // it may be gone already
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
    });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.#line(line),
    );
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null, why?: string) => {
        this.#ended = why ?? `ended with ${signal ?? code}`;
        this.#changed();
        resolve({ code, signal });
      };
      this.child.once('close', end);
      this.child.once('error', (error) => end(null, null, `did not start: ${error.message}`));
    });
  }

  get pid(): number {
    return this.child.pid as number;
  }

  send(command: object): void {
    this.child.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  /** Takes the first event of that name, or of these; rejects if the process ends before, or time is over. */
  async next(
    event: string | readonly string[],
    timeoutMs = 20_000,
    where: (e: RankEvent) => boolean = () => true,
  ): Promise<RankEvent> {
    const names = typeof event === 'string' ? [event] : event;
    const until = performance.now() + timeoutMs * patience;
    for (;;) {
      const at = this.events.findIndex((e) => names.includes(e.event) && where(e));
      if (at >= 0) return this.events.splice(at, 1)[0] as RankEvent;
      const left = until - performance.now();
      const why = this.#ended ?? (left <= 0 ? `said nothing within ${timeoutMs} ms` : undefined);
      if (why !== undefined) {
        throw new Error(
          `waiting for '${names.join(' or ')}': ${this.name} (pid ${this.pid}) ${why}. Output:\n${this.output}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.child.kill(signal);
  }

  #line(line: string): void {
    this.output += `${line}\n`;
    try {
      const said = JSON.parse(line) as RankEvent;
      if (typeof said?.event === 'string') this.events.push(said);
    } catch {
      // Not for us; it stands in the output.
    }
    this.#changed();
  }

  #changed(): void {
    const wake = [...this.#wake];
    this.#wake.clear();
    for (const each of wake) each();
  }
}

/** Starts one process; inside a test it is killed at the test's end. */
export function startRank(fixture: string, options: RankOptions = {}): RankProcess {
  const rank = new RankProcess(fixture, options);
  try {
    onTestFailed(() => console.log(`--- ${rank.name} (pid ${rank.pid})\n${rank.output}`));
    onTestFinished(async () => {
      rank.kill();
      await rank.exited;
    });
  } catch {
    // Not inside a test.
  }
  return rank;
}

/** Starts `count` processes of one fixture. */
export function startRanks(
  fixture: string,
  count: number,
  options: (rank: number) => RankOptions = () => ({}),
): RankProcess[] {
  return Array.from({ length: count }, (_, rank) =>
    startRank(fixture, { name: `rank ${rank}`, rank, ...options(rank) }),
  );
}

/** The next event of that name from each. */
export function all(
  ranks: readonly RankProcess[],
  event: string | readonly string[],
  timeoutMs?: number,
): Promise<RankEvent[]> {
  return Promise.all(ranks.map((rank) => rank.next(event, timeoutMs)));
}
