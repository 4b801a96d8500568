/** Rank processes that live on from one round to the next; only the killed are replaced. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command, Said } from './protocol.ts';

// Under vitest this file runs as it is; the rank's process needs its compiled form.
const compiled = import.meta.url.endsWith('.ts') ? '../../build/ts/test/campaigns/rank.js' : './rank.js';
const program = fileURLToPath(new URL(compiled, import.meta.url));

/** How a process is started. */
export interface Berth {
  env?: NodeJS.ProcessEnv;
  /** Instead of Node itself, e.g. on another host: `['ip', 'netns', 'exec', name, process.execPath]`. */
  command?: readonly string[];
  execArgv?: readonly string[];
}

/** One process; what it says is kept until somebody asks. */
export class Sailor {
  readonly child: ChildProcess;
  /** Set before it is killed on purpose; any other end is a crash. */
  doomed = false;
  ended: string | undefined;
  /** Its group of this round stood. */
  formed = false;
  output = '';
  #said: Said[] = [];
  #wake: (() => void) | undefined;

  constructor({ env = {}, command = [process.execPath], execArgv = [] }: Berth = {}) {
    const [execPath, ...before] = command as [string, ...string[]];
    this.child = fork(program, [], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execPath,
      execArgv: [...before, ...execArgv],
      env: { ...process.env, ...env },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (text) => {
        this.output = (this.output + text).slice(-20_000);
      });
    }
    this.child.on('message', (message) => {
      this.#said.push(message as Said);
      if ((message as Said).event === 'formed') this.formed = true;
      this.#wake?.();
    });
    this.child.on('error', () => {}); // a message to a process that was killed
    this.child.on('exit', (code, signal) => {
      this.ended = signal ?? `exit code ${code}`;
      this.#wake?.();
    });
  }

  get pid(): number {
    return this.child.pid as number;
  }

  send(command: Command): void {
    if (this.child.connected) this.child.send(command);
  }

  /** The first of these events; throws where the process ends, or says nothing for so long. */
  async next<E extends Said['event']>(
    events: readonly E[],
    limitMs: number,
  ): Promise<Extract<Said, { event: E }>> {
    const until = performance.now() + limitMs;
    for (;;) {
      const at = this.#said.findIndex((said) => (events as readonly string[]).includes(said.event));
      if (at >= 0) return this.#said.splice(at, 1)[0] as Extract<Said, { event: E }>;
      if (this.ended !== undefined)
        throw new Error(`pid ${this.pid} ended with ${this.ended}\n${this.output}`);
      const left = until - performance.now();
      if (left <= 0) {
        throw new Error(
          `pid ${this.pid} said no ${events.join(' or ')} within ${limitMs} ms, but ` +
            `${this.#said.map((said) => said.event).join(', ') || 'nothing'}\n${this.output}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Once it has ended, and all that it had said has been read. */
  async gone(): Promise<void> {
    if (this.child.connected) await once(this.child, 'disconnect');
    if (this.ended === undefined) await once(this.child, 'exit');
  }

  /** What it has said of this sort, without waiting. */
  peek<E extends Said['event']>(event: E): Extract<Said, { event: E }> | undefined {
    return this.#said.find((said) => said.event === event) as Extract<Said, { event: E }> | undefined;
  }

  forget(): void {
    this.#said = [];
    this.formed = false;
  }
}

/** A pool of processes. */
export class Crew implements AsyncDisposable {
  readonly #idle: Promise<Sailor>[] = [];
  readonly #all = new Set<Sailor>();
  readonly #berth: Berth;
  started = 0;

  constructor(berth: Berth = {}) {
    this.#berth = berth;
  }

  async #start(): Promise<Sailor> {
    const sailor = new Sailor(this.#berth);
    this.started += 1;
    this.#all.add(sailor);
    await sailor.next(['ready'], 60_000);
    return sailor;
  }

  /** Has `count` processes ready before they are asked for. */
  reserve(count: number): void {
    while (this.#idle.length < count) this.#idle.push(this.#start());
  }

  take(count: number): Promise<Sailor[]> {
    this.reserve(count);
    return Promise.all(this.#idle.splice(0, count));
  }

  giveBack(sailor: Sailor): void {
    if (sailor.doomed || sailor.ended !== undefined) {
      this.#all.delete(sailor);
      return;
    }
    sailor.forget();
    this.#idle.push(Promise.resolve(sailor));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#idle);
    for (const sailor of this.#all) {
      sailor.doomed = true;
      sailor.child.kill('SIGKILL');
    }
  }
}
