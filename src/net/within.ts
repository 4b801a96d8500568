import { type ErrorFacts, TimeoutError } from '../errors.ts';
import { abortable } from './abortable.ts';

/** A timer that is set for longer fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * The result of `work`, which knows no limits; TimeoutError with the text `late` once `timeoutMs` are over, AbortedError
 * as soon as `signal` fires. What is late is left behind, and neither timer nor listener stays for it.
 */
export async function within<T>(
  op: string,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal | undefined },
  work: () => Promise<T>,
  late: string,
  facts: ErrorFacts = { op },
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(late, facts)), Math.min(timeoutMs, longestTimerMs));
  });
  try {
    return await abortable(op, signal, () => Promise.race([work(), timeout]));
  } finally {
    clearTimeout(timer);
  }
}
