import { type ErrorFacts, TimeoutError } from '../errors.ts';

/** A timer that is set for longer fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** `work`, or TimeoutError with the text `late`: for work that knows no time limits. What is late is left behind. */
export async function within<T>(
  limitMs: number,
  work: Promise<T>,
  late: string,
  facts: ErrorFacts,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(late, facts)), Math.min(limitMs, longestTimerMs));
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
