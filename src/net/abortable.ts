import { AbortedError } from '../errors.ts';

/**
 * The result of `work`, or AbortedError as soon as `signal` fires. What was sent is not taken back by that:
 * the operation may still take place.
 */
export async function abortable<T>(
  op: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
  onAbort?: () => void,
): Promise<T> {
  if (!signal) return work();
  const aborted = () => new AbortedError(`${op} was aborted`, { op }, { cause: signal.reason });
  if (signal.aborted) throw aborted();
  let listener: (() => void) | undefined;
  const abort = new Promise<never>((_resolve, reject) => {
    listener = () => {
      reject(aborted());
      onAbort?.();
    };
    signal.addEventListener('abort', listener, { once: true });
  });
  try {
    return await Promise.race([work(), abort]);
  } finally {
    if (listener) signal.removeEventListener('abort', listener);
  }
}

/** Calls `abort` with the reason when the signal fires, at once if it has; what it returns ends that. */
export function whenAborted(signal: AbortSignal | undefined, abort: (reason: string) => void): () => void {
  if (signal === undefined) return () => {};
  const listener = () => abort(abortReason(signal));
  signal.addEventListener('abort', listener, { once: true });
  if (signal.aborted) listener();
  return () => signal.removeEventListener('abort', listener);
}

/** Why a signal fired, in words. */
export function abortReason(signal: AbortSignal): string {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason.message : String(reason ?? 'its signal was aborted');
}
