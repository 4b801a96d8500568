/** Single threads of rank processes: which there are, and holding one while the process's others run on. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { testProgram } from './hosts.ts';

/** The ids of a process's threads of that name. */
export function threadsOf(pid: number, name: string): number[] {
  return readdirSync(`/proc/${pid}/task`)
    .map(Number)
    .filter((tid) => readFileSync(`/proc/${pid}/task/${tid}/comm`, 'latin1').trim() === name);
}

/** Whether a thread waits in the kernel for a lock that another one has: in futex(2), without a limit. */
export function waitsForLock(pid: number, tid: number): boolean {
  const [call = '', , operation, , limit] = readFileSync(`/proc/${pid}/task/${tid}/syscall`, 'latin1').split(
    ' ',
  );
  const futex = process.arch === 'x64' ? '202' : '98';
  const waitPrivate = '0x80';
  return call === futex && operation === waitPrivate && limit === '0x0';
}

interface Calls {
  hold(tid: number): number;
  release(tid: number): number;
}
let calls: Calls | undefined;

/** Stops that thread of a process that this one has started, until what it returns is called. */
export function holdThread(tid: number): () => void {
  calls ??= createRequire(import.meta.url)(testProgram('calls.node')) as Calls;
  const { hold, release } = calls;
  const errno = hold(tid);
  if (errno !== 0) throw new Error(`thread ${tid} cannot be held: ptrace(2) failed with errno ${errno}`);
  return () => {
    const failed = release(tid);
    if (failed !== 0)
      throw new Error(`thread ${tid} cannot be let go: ptrace(2) failed with errno ${failed}`);
  };
}

/** Why no thread can be held here, or nothing. */
export function whyNoThreadIsHeld(): string | undefined {
  const probe = spawn('sleep', ['60'], { stdio: 'ignore' });
  try {
    holdThread(probe.pid as number)();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    probe.kill('SIGKILL');
  }
}
