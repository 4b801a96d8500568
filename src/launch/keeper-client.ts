/** The launcher's side of the keeper: start it, tell it about groups, start it again should it die. */

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ResourceError } from '../errors.ts';

const program = fileURLToPath(new URL('./keeper.js', import.meta.url));
const maxStarts = 4;

/** Only what a dynamically linked Node may need to start. */
function keeperEnvironment(): Record<string, string> {
  const path = process.env['LD_LIBRARY_PATH'];
  return path === undefined ? {} : { LD_LIBRARY_PATH: path };
}

/** One keeper for one job. Owned by the launcher; call `stop` at the end of the job. */
export class Keeper {
  readonly #jobId: string;
  readonly #groups: number[] = [];
  readonly #onLost: () => void;
  #child: ChildProcess | undefined;
  #starts = 0;
  #stopping = false;

  /** `onLost` is called when the keeper died more often than it is worth starting again. */
  constructor(jobId: string, onLost: () => void) {
    this.#jobId = jobId;
    this.#onLost = onLost;
  }

  /** Pid of the keeper now running. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts the keeper. There is no need to wait until it runs: what it is told, and the end of the pipe
   * should this process die, wait in the pipe.
   * @throws ResourceError it cannot be started.
   */
  start(): void {
    this.#starts += 1;
    if (!existsSync(program)) throw new ResourceError(`the launcher's keeper is missing: ${program}`);
    const child = spawn(process.execPath, [program], {
      // A session of its own: a signal to the launcher's group or terminal does not reach it.
      detached: true,
      // Not the launcher's environment: within another job's rank, that job would find and end this keeper
      // too, and nobody would clean up the inner job. Nor NODE_OPTIONS, which may load anything.
      env: keeperEnvironment(),
      cwd: '/',
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.once('error', () => {}); // no pid, see below
    child.stdin.on('error', () => {}); // it died; 'exit' tells
    if (child.pid === undefined) throw new ResourceError('cannot start the keeper process');
    this.#child = child;
    child.stdin.write(`job ${this.#jobId}\n${this.#groups.map((g) => `group ${g}\n`).join('')}`);
    child.once('exit', () => this.#ended(child));
  }

  /** Tells the keeper about a rank's process group. */
  add(group: number): void {
    this.#groups.push(group);
    this.#child?.stdin?.write(`group ${group}\n`);
  }

  /** Ends the keeper; resolves when it is gone. Call when nothing of the job is left. */
  stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.kill('SIGKILL');
    });
  }

  #ended(child: ChildProcess): void {
    if (this.#stopping || this.#child !== child) return;
    if (this.#starts >= maxStarts) {
      this.#onLost();
      return;
    }
    try {
      this.start();
    } catch {
      this.#onLost();
    }
  }
}
