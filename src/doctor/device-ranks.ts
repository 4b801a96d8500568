/**
 * Forms a group with a rank on each of the first N devices, and votes over it. A program of its own, see child.ts,
 * started by device-group.ts; argv: N, initTimeoutMs.
 */
import { CollectivesError } from '../errors.ts';
import { dieWithParent } from '../process/die-with-parent.ts';
import { say } from './child.ts';
import type { DeviceRanks } from './device-group.ts';
import { measure } from './measure.ts';

const votes = 100;
const [size = 2, initTimeoutMs = 20_000] = process.argv.slice(2).map(Number);

async function onDevices(): Promise<DeviceRanks> {
  try {
    const { library = 'NCCL', ...times } = await measure(size, votes, (rank) => ({
      backend: 'nccl',
      device: rank,
      votes: 'device',
      initTimeoutMs,
    }));
    return { library, ...times };
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

dieWithParent();
say('device-ranks', await onDevices());
