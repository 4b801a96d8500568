/**
 * Writes to the launcher's own stdout and stderr. `process.stdout` would block this process on a pipe whose
 * reader is slow, and a blocked launcher neither forwards signals nor sees a rank fail; here the wait is in
 * the pool.
 */

import { fstatSync, write } from 'node:fs';

/** Above this many waiting bytes the ranks' streams are paused. */
const highWater = 256 * 1024;

/**
 * A queue in front of one or more descriptors of the same file: one write at a time, each finished before the
 * next begins, so lines never mix. Belongs to the thread that made it.
 */
export class OutputQueue {
  readonly #queue: { fd: number; bytes: Buffer }[] = [];
  readonly #onBroken: (error: NodeJS.ErrnoException) => void;
  #waiting = 0;
  #writing = false;
  #broken = false;
  #drained: (() => void)[] = [];
  #empty: (() => void)[] = [];

  /** `onBroken` is called once, with the first error; from then on everything written is dropped. */
  constructor(onBroken: (error: NodeJS.ErrnoException) => void) {
    this.#onBroken = onBroken;
  }

  /** Queues bytes. False: enough is waiting, wait for `onceDrained`. */
  write(fd: number, bytes: Buffer): boolean {
    if (this.#broken || bytes.length === 0) return true;
    this.#queue.push({ fd, bytes });
    this.#waiting += bytes.length;
    if (!this.#writing) this.#next();
    return this.#waiting < highWater;
  }

  /** Calls back once when there is room again. */
  onceDrained(callback: () => void): void {
    if (this.#waiting < highWater) queueMicrotask(callback);
    else this.#drained.push(callback);
  }

  /** Resolves when everything is written (or dropped). */
  flushed(): Promise<void> {
    if (this.#waiting === 0) return Promise.resolve();
    return new Promise((resolve) => this.#empty.push(resolve));
  }

  #next(): void {
    const head = this.#queue[0];
    if (head === undefined) {
      this.#writing = false;
      return;
    }
    this.#writing = true;
    write(head.fd, head.bytes, (error, written) => {
      if (error?.code === 'EAGAIN') {
        // Somebody set the shared description non-blocking; there is no readiness event for a descriptor of
        // unknown kind, so try again shortly.
        setTimeout(() => this.#next(), 5);
        return;
      }
      if (error) {
        this.#drop(error);
        return;
      }
      this.#waiting -= written;
      head.bytes = head.bytes.subarray(written);
      if (head.bytes.length === 0) this.#queue.shift();
      this.#settle();
      this.#next();
    });
  }

  #drop(error: NodeJS.ErrnoException): void {
    this.#broken = true;
    this.#writing = false;
    this.#queue.length = 0;
    this.#waiting = 0;
    this.#settle();
    this.#onBroken(error);
  }

  #settle(): void {
    if (this.#waiting < highWater) for (const callback of this.#drained.splice(0)) callback();
    if (this.#waiting === 0) for (const callback of this.#empty.splice(0)) callback();
  }
}

/** True where both descriptors lead to the same file, terminal or pipe. */
export function sameFile(a: number, b: number): boolean {
  try {
    const [x, y] = [fstatSync(a), fstatSync(b)];
    return x.dev === y.dev && x.ino === y.ino;
  } catch {
    return false;
  }
}
