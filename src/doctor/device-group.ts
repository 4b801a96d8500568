/** Whether a group forms on this machine's devices, and how fast it is there. */
import { runProgram } from './child.ts';
import { type Finding, ok, warning } from './finding.ts';

/** What device-ranks.ts has found. */
export type DeviceRanks =
  | { library: string; formedMs: number; voteMicros: number; error?: never }
  | { error: { code: string; message: string } };

export interface DeviceGroupLimits {
  /** For forming the group. */
  initTimeoutMs: number;
  /** For all of it; then the process is killed. */
  totalMs: number;
}

/** More devices than one host of most kinds has say nothing new. */
const most = 8;
const subject = 'devices';
const usual: DeviceGroupLimits = { initTimeoutMs: 20_000, totalMs: 45_000 };

/** A rank on each of this many devices, up to 8: with one it still shows that driver and library work. Nothing of it is loaded into this process. */
export async function deviceGroup(
  devices: number,
  env: NodeJS.ProcessEnv,
  { initTimeoutMs, totalMs }: DeviceGroupLimits = usual,
): Promise<Finding> {
  const size = Math.min(devices, most);
  const { found, how } = await runProgram<DeviceRanks>({
    name: 'device-ranks',
    args: [String(size), String(initTimeoutMs)],
    env,
    totalMs,
  });
  if (found === undefined) return bad(size, how);
  if (found.error !== undefined) return bad(size, `${found.error.message} (${found.error.code})`);
  const { library, formedMs, voteMicros } = found;
  return ok(
    subject,
    `${library} forms a group on ${size} device${size === 1 ? '' : 's'} in ${formedMs.toFixed(0)} ms; ` +
      `a vote there takes ${voteMicros.toFixed(0)} µs (median)`,
    { size, library, formedMs, voteMicros },
  );
}

function bad(size: number, why: string): Finding {
  return warning(
    subject,
    `no group of ${size} rank${size === 1 ? '' : 's'} on the devices: ${why}`,
    'NCCL_DEBUG=INFO makes the library say more; is another program using the devices?',
    { size, why },
  );
}
