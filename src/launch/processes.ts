/**
 * The processes of a job, found in /proc: members of the ranks' process groups, and those that left their
 * group but still carry the job's id in their environment. Used by the launcher and by its keeper.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { jobIdVariable } from './environment.ts';

/** Pids of all living processes of the job, without the caller. Empty where there is no /proc. */
export function jobProcesses(jobId: string, groups: ReadonlySet<number>): number[] {
  const mark = Buffer.from(`${jobIdVariable}=${jobId}\0`);
  const found: number[] = [];
  for (const name of list('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      // The command name may hold blanks and parentheses; the fields after it may not.
      const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z' || state === 'X') continue;
      if (groups.has(Number(group)) || hasMark(readFileSync(`/proc/${pid}/environ`), mark)) found.push(pid);
    } catch {
      // gone meanwhile, or somebody else's
    }
  }
  return found;
}

function hasMark(environ: Buffer, mark: Buffer): boolean {
  for (let at = environ.indexOf(mark); at >= 0; at = environ.indexOf(mark, at + 1)) {
    if (at === 0 || environ[at - 1] === 0) return true;
  }
  return false;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/**
 * Sends a signal to one process, or with a negative number to a group. False where there is none (any more).
 */
export function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

const roundMs = 20;

/**
 * Ends what is left of a job: SIGTERM, after `graceMs` SIGKILL, until `quietRounds` looks in a row find
 * nobody. Processes that are no children announce no end, so this looks every 20 ms. Returns how many
 * processes it met.
 */
export async function endJob(
  jobId: string,
  groups: ReadonlySet<number>,
  options: { graceMs: number; quietRounds: number },
): Promise<number> {
  const start = performance.now();
  const met = new Set<number>();
  for (let quiet = 0; quiet < options.quietRounds; ) {
    const left = jobProcesses(jobId, groups);
    quiet = left.length === 0 ? quiet + 1 : 0;
    const hard = performance.now() - start >= options.graceMs;
    for (const pid of left) {
      if (hard) send(pid, 'SIGKILL');
      else if (!met.has(pid)) send(pid, 'SIGTERM');
      met.add(pid);
    }
    if (quiet < options.quietRounds) await new Promise((resolve) => setTimeout(resolve, roundMs));
  }
  return met.size;
}
