/** All that `node-collectives doctor` looks at, in the order in which things depend on each other. */
import type { DeviceProbe } from '../native/binding.ts';
import { runProgram } from './child.ts';
import { deviceGroup } from './device-group.ts';
import { environment } from './environment.ts';
import { type Machine, machine } from './files.ts';
import { type Finding, type Section, warning } from './finding.ts';
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
  /** Whether a group may be formed on the devices, where there are any. Default true. */
  useDevices?: boolean;
  /** For looking at drivers and libraries, which take seconds to wake up; then that is given up. Default 30 s. */
  probeMs?: number;
}

function deviceFiles(on: Machine): DeviceFiles {
  return {
    nvidia: on.list('/dev').some((name) => /^nvidia\d+$/.test(name)),
    amd: on.list('/dev').includes('kfd'),
  };
}

function unknown(how: string): Finding {
  const advice = 'groups on devices fail here as well; does nvidia-smi or rocm-smi come to an end?';
  return warning('drivers', `looking at drivers and libraries failed: ${how}`, advice, { how });
}

type Looking = Required<Omit<DoctorOptions, 'masterAddr'>>;

/** The devices, and groups here and on them. */
async function groups({ on, env, useDevices, probeMs }: Looking): Promise<Section[]> {
  const { found, how } = await runProgram<DeviceProbe>({ name: 'device-probe', env, totalMs: probeMs });
  const count = found === undefined ? 0 : usableDevices(found);
  const findings = found === undefined ? [unknown(how)] : gpus(found, deviceFiles(on), env);
  return [
    { title: 'GPUs', findings },
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
  probeMs = 30_000,
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
    ...(loads ? await groups({ on, env, useDevices, probeMs }) : []),
  ];
}
