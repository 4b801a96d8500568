/** One rank: its process, its process group, its two output streams. */

import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { LinePrefixer } from './lines.ts';
import type { OutputQueue } from './output.ts';
import { send } from './processes.ts';

/** How a rank ended. */
export interface RankEnd {
  readonly rank: number;
  /** Absent where it could not be started. */
  readonly pid?: number;
  /** Exit code; 128 + n for signal n; 127 program not found, 126 not executable. */
  readonly exitCode: number;
  readonly signal?: NodeJS.Signals;
  /** Why it could not be started. */
  readonly startError?: string;
}

export interface RankProcessOptions {
  readonly rank: number;
  readonly command: readonly [string, ...string[]];
  readonly env: Record<string, string>;
  readonly stdin: 'inherit' | 'ignore';
  /** Becomes descriptor 3 of the process. */
  readonly listenFd?: number;
  /** Queues for stdout and stderr. */
  readonly outputs: readonly [OutputQueue, OutputQueue];
  /** Prefixes for stdout and stderr. */
  readonly prefixes: readonly string[];
}

/** `rank 2 (pid 4711) failed first: exit code 3`. */
export function describeEnd(end: RankEnd): string {
  const who = end.pid === undefined ? `rank ${end.rank}` : `rank ${end.rank} (pid ${end.pid})`;
  if (end.startError !== undefined) return `${who} could not be started: ${end.startError}`;
  const how = end.signal === undefined ? `exit code ${end.exitCode}` : `killed by ${end.signal}`;
  return `${who} failed first: ${how}`;
}

/** How long the output of a rank that is gone may stay open by a process that we cannot find. */
const lingerMs = 1000;

interface Relay {
  readonly stream: Readable;
  readonly closed: Promise<void>;
  /** Data came since the last look. */
  active: boolean;
}

export class RankProcess {
  readonly rank: number;
  /** Pid, also the number of its process group and session. */
  readonly pid: number | undefined;
  /** Resolves when the process is gone (its output may still be on the way). Never rejects. */
  readonly exited: Promise<RankEnd>;
  readonly #child: ChildProcess | undefined;
  readonly #streams: Relay[] = [];
  #alive = false;

  constructor(options: RankProcessOptions) {
    this.rank = options.rank;
    const [program, ...args] = options.command;
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        env: options.env,
        // A group of its own, so that one signal reaches also what the rank started.
        detached: true,
        stdio: [options.stdin, 'pipe', 'pipe', ...(options.listenFd === undefined ? [] : [options.listenFd])],
      });
    } catch (error) {
      this.exited = Promise.resolve(notStarted(options.rank, program, error as NodeJS.ErrnoException));
      return;
    }
    this.#child = child;
    this.pid = child.pid;
    this.#alive = child.pid !== undefined;
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => {
        if (child.pid === undefined) resolve(notStarted(options.rank, program, error));
      });
      child.once('exit', (code, signal) => {
        this.#alive = false;
        const pid = child.pid === undefined ? {} : { pid: child.pid };
        if (signal !== null) {
          resolve({ rank: options.rank, ...pid, exitCode: 128 + constants.signals[signal], signal });
        } else {
          resolve({ rank: options.rank, ...pid, exitCode: code ?? 1 });
        }
      });
    });
    if (child.pid === undefined) return;
    for (const [i, stream] of [child.stdout, child.stderr].entries()) {
      const queue = options.outputs[i];
      if (stream !== null && queue !== undefined)
        this.#relay(stream, i + 1, queue, options.prefixes[i] ?? '');
    }
  }

  /** To the rank and all in its group. False if the rank itself is gone. */
  signalGroup(signal: NodeJS.Signals): boolean {
    return this.#alive && this.pid !== undefined && send(-this.pid, signal);
  }

  /** To the rank's own process only. */
  signalMain(signal: NodeJS.Signals): void {
    if (this.#alive) this.#child?.kill(signal);
  }

  /** Resolves when all output has been handed on. Call after the end of the rank and of its descendants. */
  async closeOutputs(): Promise<void> {
    for (const relay of this.#streams) {
      // A descendant with a cleared environment and a session of its own cannot be found, but may hold the
      // pipe.
      const timer = setInterval(() => {
        const quiet = !relay.active && !relay.stream.isPaused();
        relay.active = false;
        if (quiet) relay.stream.destroy();
      }, lingerMs);
      await relay.closed;
      clearInterval(timer);
    }
  }

  #relay(stream: Readable, fd: number, queue: OutputQueue, prefix: string): void {
    const lines = new LinePrefixer(prefix);
    const closed = new Promise<void>((resolve) => {
      stream.once('close', () => {
        queue.write(fd, lines.end());
        resolve();
      });
    });
    stream.on('error', () => {}); // 'close' follows
    const relay = { stream, closed, active: false };
    stream.on('data', (chunk: Buffer) => {
      relay.active = true;
      if (queue.write(fd, lines.push(chunk))) return;
      stream.pause();
      queue.onceDrained(() => stream.resume());
    });
    this.#streams.push(relay);
  }
}

function notStarted(rank: number, program: string, error: NodeJS.ErrnoException): RankEnd {
  const exitCode = error.code === 'ENOENT' ? 127 : 126;
  const why = error.code === 'ENOENT' ? `${program}: not found` : `${program}: ${error.message}`;
  return { rank, exitCode, startError: why };
}
