/** All that `node-collectives doctor` looks at, in the order in which things depend on each other. */
import { binding } from '../native/binding.ts';
import { deviceGroup } from './device-group.ts';
import { environment } from './environment.ts';
import { type Machine, machine } from './files.ts';
import type { Section } from './finding.ts';
import { type DeviceFiles, gpus, usableDevices } from './gpus.ts';
import { twoRanks } from './group.ts';
import { limits } from './limits.ts';
import { network } from './network.ts';
import { runtime } from './runtime.ts';

export interface DoctorOptions {
  /** Rank 0's address, to which the route is asked for. */
  masterAddr?: string;
  env?: NodeJS.ProcessEnv;
  on?: Machine;
  /** Whether a group may be formed on the devices, where there are two or more. Default true. */
  useDevices?: boolean;
}

function deviceFiles(on: Machine): DeviceFiles {
  return {
    nvidia: on.list('/dev').some((name) => /^nvidia\d+$/.test(name)),
    amd: on.list('/dev').includes('kfd'),
  };
}

/** The devices, and groups here and on them. */
async function groups(on: Machine, env: NodeJS.ProcessEnv, useDevices: boolean): Promise<Section[]> {
  const probe = binding().probeDevices();
  const count = usableDevices(probe);
  return [
    { title: 'GPUs', findings: gpus(probe, deviceFiles(on), env) },
    {
      title: 'Group',
      findings: [await twoRanks(), ...(useDevices && count > 0 ? [await deviceGroup(count, env)] : [])],
    },
  ];
}

/** Looks at everything; opens no socket but on loopback, and leaves nothing behind. */
export async function examine({
  masterAddr,
  env = process.env,
  on = machine,
  useDevices = true,
}: DoctorOptions): Promise<Section[]> {
  const first = { title: 'Runtime', findings: runtime(on, process.versions) };
  const loads = first.findings.every(({ subject, status }) => subject !== 'addon' || status === 'ok');
  return [
    first,
    { title: 'Environment', findings: environment(env) },
    {
      title: 'Network',
      findings: await network(on, env, masterAddr ?? env['VLLM_DP_MASTER_IP'] ?? env['MASTER_ADDR']),
    },
    { title: 'Limits', findings: limits(on) },
    ...(loads ? await groups(on, env, useDevices) : []),
  ];
}
