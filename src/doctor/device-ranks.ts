/**
 * Forms a group with a rank on each of the first N devices, and votes over it. A program of its own, started by
 * device-group.ts, since a broken driver or library may end its process, or never come back.
 *
 * argv: N, initTimeoutMs. Says `device-ranks: ` and JSON on stdout: what was found, or `error`.
 */
import { CollectivesError } from '../errors.ts';
import { dieWithParent } from '../process/die-with-parent.ts';
import { type DeviceRanks, mark } from './device-group.ts';
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
// Written at once: what is left of a broken library may end this process otherwise.
process.stdout.write(`\n${mark}${JSON.stringify(await onDevices())}\n`, () => process.exit(0));
