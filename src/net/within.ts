import { type ErrorFacts, TimeoutError } from '../errors.ts';

/** A timer that is set for longer fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** Rejects with TimeoutError of the text `late` once the time is over; its timer lives until clear(). */
export function timeLimit(
  limitMs: number,
  late: string,
  facts: ErrorFacts,
): { passed: Promise<never>; clear: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(late, facts)), Math.min(limitMs, longestTimerMs));
  });
  return { passed, clear: () => clearTimeout(timer) };
}

/** `work`, or TimeoutError with the text `late`: for work that knows no time limits. What is late is left behind. */
export async function within<T>(
  limitMs: number,
  work: Promise<T>,
  late: string,
  facts: ErrorFacts,
): Promise<T> {
  const limit = timeLimit(limitMs, late, facts);
  try {
    return await Promise.race([work, limit.passed]);
  } finally {
    limit.clear();
  }
}
