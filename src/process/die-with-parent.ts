/** Dying with the parent process. What is certain about it and what is not: docs/lifetimes.md. */
import { constants } from 'node:os';
import { InvalidArgumentError } from '../errors.ts';
import { binding } from '../native/binding.ts';
import { longestTimerMs } from '../net/within.ts';
import { checkNames, optionNames } from '../option-names.ts';

/** Name of the variable that asks for it when this process forms its first group. */
export const dieWithParentVariable = 'NODE_COLLECTIVES_DIE_WITH_PARENT';

const op = 'dieWithParent';
const signals = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const;
const defaultGraceMs = 10_000;
const largestPid = 2 ** 22;

/** Options of `dieWithParent()`. */
export interface DieWithParentOptions {
  /**
   * Pid of the process that must be the parent, as that process has told it: should it have ended before the call, this
   * process ends now. Left out, whichever process is the parent at the time of the call is meant, and one that ended
   * before is not missed.
   */
  parent?: number;
  /** What this process gets when the parent ends. Default `SIGKILL`; another one can be answered by its handlers. */
  signal?: (typeof signals)[number];
  /** Milliseconds from a signal other than SIGKILL to the SIGKILL that follows it. Default 10,000; 0: at once. */
  graceMs?: number;
}

const names = optionNames<DieWithParentOptions>({ parent: true, signal: true, graceMs: true });

/**
 * From now on this process ends when its parent process does, however that ends, SIGKILL included: for ranks that were
 * not started by `node-collectives launch`. A native thread waits for it, so a busy JavaScript thread changes nothing.
 * May be called in a worker; it holds for the process, for the rest of its life. What this process has started itself
 * does not end with it. A second call with the same options does nothing.
 *
 * @returns the pid of the parent that is watched. 1 where the parent had ended before the call, or is the system's or
 *   container's first process.
 * @throws InvalidArgumentError, also for a second call with another `signal` or `graceMs`; UnsupportedError where the
 *   parent is in another pid namespace; ResourceError.
 */
export function dieWithParent(options: DieWithParentOptions = {}): number {
  if (typeof options !== 'object' || options === null) throw refuse('options must be an object', options);
  checkNames(op, options, names);
  const { parent, signal = 'SIGKILL', graceMs } = options;
  if (!signals.includes(signal)) throw refuse(`signal must be one of ${signals.join(', ')}`, signal);
  if (parent !== undefined && !isWhole(parent, 1, largestPid))
    throw refuse('parent must be a process id', parent);
  if (graceMs !== undefined && !isWhole(graceMs, 0, longestTimerMs))
    throw refuse(
      `graceMs must be a whole number of milliseconds, 0 at least and ${longestTimerMs} at most`,
      graceMs,
    );
  if (graceMs !== undefined && signal === 'SIGKILL')
    throw refuse('graceMs needs a signal other than SIGKILL', graceMs);
  return binding().watchParent({
    parent: parent ?? 0,
    signal: constants.signals[signal],
    graceMs: signal === 'SIGKILL' ? 0 : (graceMs ?? defaultGraceMs),
    byNumber: false,
  });
}

/**
 * What the variable asks for: `1`, to die with whichever process is the parent now, or the pid of the one that is meant.
 * Done once and taken out of the environment, since to a child of this process another process is the parent.
 */
export function dieWithParentWhereAsked(env: NodeJS.ProcessEnv = process.env): void {
  const text = env[dieWithParentVariable]?.trim() ?? '';
  if (text === '' || text === '0') return;
  const parent = Number(text);
  if (!/^\d{1,7}$/.test(text) || !isWhole(parent, 1, largestPid)) {
    throw new InvalidArgumentError(
      `${dieWithParentVariable} must be 1, 0, or the pid of the parent, it is ${JSON.stringify(text)}`,
      { op },
    );
  }
  delete env[dieWithParentVariable];
  // The program has decided itself.
  if (binding().watchedParent() !== 0) return;
  dieWithParent(parent === 1 ? {} : { parent });
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function refuse(must: string, got: unknown): InvalidArgumentError {
  const shown = typeof got === 'string' ? JSON.stringify(got) : String(got);
  return new InvalidArgumentError(`${op}: ${must}, it is ${shown}`, { op });
}
