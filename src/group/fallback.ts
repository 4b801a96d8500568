/** Falling back from GPUs to CPUs is never silent. */
import type { BackendChoice } from './dp.ts';
import { type FallbackMessage, report } from './events.ts';

let warned = false;

/** Tells subscribers each time, and the process once. */
export function reportFallback(
  config: { dataParallelRank: number; dataParallelSize: number },
  groupName: string,
  choice: BackendChoice,
): void {
  const { platformBackend, backend, reason } = choice;
  const { dataParallelRank: rank, dataParallelSize: size } = config;
  report('fallback', {
    groupName,
    rank,
    size,
    from: platformBackend,
    to: backend,
    reason,
  } as FallbackMessage);
  if (warned) return;
  warned = true;
  process.emitWarning(`${reason}: its groups use ${backend} instead`, {
    type: 'NodeCollectivesWarning',
    code: 'BACKEND_FALLBACK',
  });
}
