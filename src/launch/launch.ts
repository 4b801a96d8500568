/** Starts the ranks of a job on this host, and sees to it that they end together. */

import { randomBytes, randomUUID } from 'node:crypto';
import { isatty } from 'node:tty';
import { InvalidArgumentError } from '../errors.ts';
import { type Environment, rankEnvironment } from './environment.ts';
import { Keeper } from './keeper-client.ts';
import { rankPrefix } from './lines.ts';
import { withListeningPort } from './listener.ts';
import { OutputQueue, sameFile } from './output.ts';
import { endJob } from './processes.ts';
import { describeEnd, type RankEnd, RankProcess } from './rank-process.ts';

export interface LaunchOptions {
  /** Number of ranks, 1 to 1024. */
  readonly nproc: number;
  /** The program and its arguments, started once for each rank; no shell. */
  readonly command: readonly [string, ...string[]];
  /** Address of this host on which rank 0 serves the group; default 127.0.0.1. */
  readonly masterAddr?: string;
  /**
   * A fixed port: told to the ranks as it is, neither bound nor checked. Default: a free port, held for rank
   * 0.
   */
  readonly masterPort?: number;
  /** False: the port is chosen but not held (a race), for programs that bind MASTER_PORT themselves. */
  readonly listenFd?: boolean;
  /** Milliseconds between SIGTERM and SIGKILL when the launcher ends ranks; default 10,000. */
  readonly graceMs?: number;
  /** False: lines are passed on without `[rank N]`. */
  readonly prefix?: boolean;
  /** '0': rank 0 reads the launcher's standard input; 'none' (default): every rank's is empty. */
  readonly stdin?: 'none' | '0';
  /** Environment of the ranks before the launcher's variables; default process.env. */
  readonly env?: Environment;
  /** Random by default. */
  readonly jobId?: string;
}

export interface LaunchResult {
  /**
   * 0, or that of the rank that failed first: its exit code, 128 + n for signal n, 127 or 126 if it did not
   * start.
   */
  readonly exitCode: number;
  /** The rank whose failure ended the job. */
  readonly firstFailure?: RankEnd;
  readonly jobId: string;
}

const defaultGraceMs = 10_000;
/** Sent on to the ranks' process groups, as a terminal would. */
const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** Sent on to the ranks themselves only: a helper process that does not know them would die. */
const userSignals = ['SIGUSR1', 'SIGUSR2'] as const;
const signalNumbers: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 };

/**
 * Starts `nproc` processes and waits until all have ended. Takes over signal handling and the standard
 * streams of this process, so it is meant for a process that does nothing else (the command line).
 *
 * @throws InvalidArgumentError, AddressUnavailableError, ResourceError before any rank was started.
 */
export async function launch(options: LaunchOptions): Promise<LaunchResult> {
  const { nproc } = options;
  if (!Number.isInteger(nproc) || nproc < 1 || nproc > 1024) {
    throw new InvalidArgumentError(`nproc must be a whole number from 1 to 1024, it is ${nproc}`);
  }
  return new Job(options).run();
}

class Job {
  readonly #options: LaunchOptions;
  readonly #jobId: string;
  readonly #secret = randomBytes(32).toString('base64url');
  readonly #graceMs: number;
  readonly #keeper: Keeper;
  readonly #ranks: RankProcess[] = [];
  readonly #out: OutputQueue;
  readonly #err: OutputQueue;
  readonly #handlers = new Map<NodeJS.Signals, () => void>();
  #firstFailure: RankEnd | undefined;
  /** Exit code of an ending that no rank caused. */
  #ownCode = 0;
  #signal: NodeJS.Signals | undefined;
  #ending = false;
  #killed = 0;
  #graceTimer: NodeJS.Timeout | undefined;

  constructor(options: LaunchOptions) {
    this.#options = options;
    this.#jobId = options.jobId ?? randomUUID();
    this.#graceMs = options.graceMs ?? defaultGraceMs;
    this.#keeper = new Keeper(this.#jobId, () => this.#end('the keeper process died again and again', 1));
    this.#out = new OutputQueue((error) => this.#outputBroken('stdout', error));
    // One terminal, two descriptors: a shared queue keeps lines of both from mixing.
    this.#err = sameFile(1, 2) ? this.#out : new OutputQueue((error) => this.#outputBroken('stderr', error));
  }

  async run(): Promise<LaunchResult> {
    for (const signal of endingSignals) this.#on(signal, () => this.#endingSignal(signal));
    for (const signal of userSignals) {
      this.#on(signal, () => {
        for (const rank of this.#ranks) rank.signalMain(signal);
      });
    }
    try {
      this.#keeper.start();
      await this.#startAll();
      await Promise.all(this.#ranks.map((rank) => rank.exited));
      await this.#sweep();
      await this.#summary();
    } catch (error) {
      await endJob(this.#jobId, this.#groups(), { graceMs: 0, quietRounds: 1 });
      throw error;
    } finally {
      clearTimeout(this.#graceTimer);
      await this.#keeper.stop();
      // From here on a signal ends this process at once, also when the reader of our output is stuck.
      for (const [signal, handler] of this.#handlers) process.removeListener(signal, handler);
    }
    await Promise.all([this.#out.flushed(), this.#err.flushed()]);
    const failure = this.#firstFailure;
    return {
      exitCode: failure?.exitCode ?? this.#ownCode,
      ...(failure === undefined ? {} : { firstFailure: failure }),
      jobId: this.#jobId,
    };
  }

  #on(signal: NodeJS.Signals, handler: () => void): void {
    this.#handlers.set(signal, handler);
    process.on(signal, handler);
  }

  async #startAll(): Promise<void> {
    const { masterAddr = '127.0.0.1', masterPort, listenFd = true } = this.#options;
    if (masterPort !== undefined) {
      this.#startRanks(masterAddr, masterPort);
    } else if (listenFd) {
      await withListeningPort(masterAddr, (port, fd) => this.#startRanks(masterAddr, port, fd));
    } else {
      const port = await withListeningPort(masterAddr, (free) => free);
      this.#startRanks(masterAddr, port);
    }
  }

  #startRanks(masterAddr: string, masterPort: number, fd?: number): void {
    const { nproc: worldSize, command, env = process.env, stdin = 'none', prefix = true } = this.#options;
    const colour = [1, 2].map((f) => isatty(f) && !process.env['NO_COLOR']);
    for (let rank = 0; rank < worldSize && !this.#ending && this.#signal === undefined; rank++) {
      const held = rank === 0 && fd !== undefined;
      const place = {
        rank,
        worldSize,
        masterAddr,
        masterPort,
        jobId: this.#jobId,
        secret: this.#secret,
      };
      const started = new RankProcess({
        rank,
        command,
        env: rankEnvironment(env, held ? { ...place, listenFd: 3 } : place),
        stdin: stdin === '0' && rank === 0 ? 'inherit' : 'ignore',
        ...(held ? { listenFd: fd } : {}),
        outputs: [this.#out, this.#err],
        prefixes: colour.map((c) => (prefix ? rankPrefix(rank, c) : '')),
      });
      this.#ranks.push(started);
      if (started.pid !== undefined) this.#keeper.add(started.pid);
      void started.exited.then((end) => this.#rankEnded(end));
    }
  }

  #rankEnded(end: RankEnd): void {
    if (end.exitCode === 0) return;
    if (this.#ending || this.#firstFailure !== undefined) return;
    this.#firstFailure = end;
    if (this.#asTold(end)) this.#end(undefined, end.exitCode);
    else this.#end(this.#ranks.length > 1 ? `${describeEnd(end)}; ending the others` : describeEnd(end), 0);
  }

  /** True for a rank that ended by the signal that we passed on, or with the exit code that stands for it. */
  #asTold(end: RankEnd): boolean {
    return this.#signal !== undefined && end.exitCode === 128 + (signalNumbers[this.#signal] ?? 0);
  }

  #endingSignal(signal: NodeJS.Signals): void {
    const again = this.#signal !== undefined;
    this.#signal ??= signal;
    if (this.#ranks.length === 0) {
      this.#ownCode = 128 + (signalNumbers[signal] ?? 0);
      return;
    }
    if (again) this.#end(`${signal} again; ending all ranks`, 128 + (signalNumbers[signal] ?? 0));
    else for (const rank of this.#ranks) rank.signalGroup(signal);
  }

  #outputBroken(stream: string, error: NodeJS.ErrnoException): void {
    // As if SIGPIPE had ended us: there is no point in work whose output nobody gets.
    const code = error.code === 'EPIPE' ? 128 + 13 : 1;
    this.#end(`cannot write to ${stream} (${error.code ?? error.message}); ending all ranks`, code);
  }

  /** SIGTERM for all ranks, SIGKILL after the grace time. */
  #end(why: string | undefined, code: number): void {
    if (this.#ending) return;
    this.#ending = true;
    if (this.#firstFailure === undefined) this.#ownCode = code;
    if (why !== undefined) this.#say(why);
    for (const rank of this.#ranks) rank.signalGroup('SIGTERM');
    this.#graceTimer = setTimeout(() => {
      for (const rank of this.#ranks) if (rank.signalGroup('SIGKILL')) this.#killed += 1;
    }, this.#graceMs);
  }

  /** Ends what the ranks left behind, then takes in the last of the output. */
  async #sweep(): Promise<void> {
    const left = await endJob(this.#jobId, this.#groups(), { graceMs: this.#graceMs, quietRounds: 1 });
    if (left > 0) this.#say(`ended ${left} process${left === 1 ? '' : 'es'} that ranks had left behind`);
    await Promise.all(this.#ranks.map((rank) => rank.closeOutputs()));
  }

  #groups(): Set<number> {
    return new Set(this.#ranks.flatMap((rank) => (rank.pid === undefined ? [] : [rank.pid])));
  }

  async #summary(): Promise<void> {
    const failure = this.#firstFailure;
    if (this.#killed > 0) {
      this.#say(
        `${this.#killed} rank${this.#killed === 1 ? '' : 's'} did not end on SIGTERM in ${this.#graceMs} ms and got SIGKILL`,
      );
    }
    if (failure !== undefined && this.#ranks.length > 1 && !this.#asTold(failure)) {
      this.#say(`job failed: ${describeEnd(failure)}`);
    }
    await Promise.all([this.#out.flushed(), this.#err.flushed()]);
  }

  #say(text: string): void {
    this.#err.write(2, Buffer.from(`[launch] ${text}\n`));
  }
}
