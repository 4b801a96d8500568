/** Which accelerators this process may use, found out without touching them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

type Env = Readonly<Record<string, string | undefined>>;

/** What is asked of the operating system; tests replace it. */
export interface System {
  list(folder: string): string[];
  read(file: string): string;
  exists(file: string): boolean;
  /** What the program prints, or undefined if it cannot be run. */
  run(program: string, args: readonly string[]): string | undefined;
}

export const system: System = {
  list: (folder) => attempt(() => readdirSync(folder), []),
  read: (file) => attempt(() => readFileSync(file, 'utf8'), ''),
  exists: existsSync,
  run(program, args) {
    // Loaded here: importing the package stays cheap, and few machines get this far.
    const { spawnSync } = process.getBuiltinModule('node:child_process');
    const result = spawnSync(program, args, {
      encoding: 'utf8',
      timeout: 15_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return result.status === 0 ? result.stdout : undefined;
  },
};

function attempt<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

export interface FoundDevices {
  readonly platform: 'cuda' | 'rocm' | 'cpu';
  /** How many the environment leaves to this process. */
  readonly visible: number;
  readonly customAllReduce: boolean;
}

/** A device; its UUID where it is known. */
interface Device {
  readonly uuid?: string;
}

/** The platform is that of the devices the driver has, even where the environment hides all of them. */
export function findDevices(env: Env, on: System = system): FoundDevices {
  const cuda = cudaDevices(on);
  if (cuda.length > 0) {
    const left = select(cuda, env['CUDA_VISIBLE_DEVICES']);
    return { platform: 'cuda', visible: left.length, customAllReduce: true };
  }
  const rocm = rocmDevices(on);
  if (rocm.length > 0) {
    // ROCR hides devices from everything above it, HIP among them.
    const runtime = select(rocm, env['ROCR_VISIBLE_DEVICES']);
    const left = select(runtime, env['HIP_VISIBLE_DEVICES'] ?? env['CUDA_VISIBLE_DEVICES']);
    return {
      platform: 'rocm',
      visible: left.length,
      customAllReduce: rocm.some((device) => device.customAllReduce),
    };
  }
  return { platform: 'cpu', visible: 0, customAllReduce: false };
}

/**
 * The devices that a list of indices and UUIDs (or their beginnings) names: up to the first entry that names
 * none, as the runtimes read it. A device named twice makes the whole list void. Unset is all, empty is none.
 */
export function select<D extends Device>(devices: readonly D[], list: string | undefined): D[] {
  if (list === undefined) return [...devices];
  const chosen: D[] = [];
  for (const entry of list.split(',')) {
    const device = named(devices, entry.trim(), chosen);
    if (device === undefined) break;
    if (chosen.includes(device)) return [];
    chosen.push(device);
  }
  return chosen;
}

function named<D extends Device>(devices: readonly D[], entry: string, chosen: readonly D[]): D | undefined {
  if (/^\+?\d+$/.test(entry)) return devices[Number(entry)];
  if (!/^(GPU|MIG)-/i.test(entry)) return undefined;
  const wanted = entry.toLowerCase();
  const matching = devices.filter((device) => device.uuid?.toLowerCase().startsWith(wanted));
  if (matching.length === 1) return matching[0];
  // Without UUIDs nobody can say which device is meant, but it is one.
  return devices.find((device) => device.uuid === undefined && !chosen.includes(device));
}

/**
 * NVML first (through nvidia-smi: no context), then what the driver tells in /proc, then its files in /dev.
 */
function cudaDevices(on: System): Device[] {
  const files = on.list('/dev').filter((name) => /^nvidia\d+$/.test(name));
  const known = on.list('/proc/driver/nvidia/gpus').sort();
  // Asking nvidia-smi takes a process: not where there is no driver.
  if (files.length === 0 && known.length === 0 && !on.exists('/dev/dxg')) return [];
  const told = on.run('nvidia-smi', ['-L']);
  const listed = [...(told ?? '').matchAll(/\(UUID: ((?:GPU|MIG)-[^)]+)\)/g)].map(
    (match) => match[1] as string,
  );
  if (listed.length > 0) return withPartitions(listed);
  const described = known.flatMap((name) => {
    const text = on.read(`/proc/driver/nvidia/gpus/${name}/information`);
    const uuid = /^GPU UUID:\s*(GPU-[0-9a-f-]+)/m.exec(text)?.[1];
    const minor = /^Device Minor:\s*(\d+)/m.exec(text)?.[1];
    // A container sees all devices of its host here, but has the files of its own only.
    if (minor === undefined || !files.includes(`nvidia${minor}`)) return [];
    return [uuid === undefined ? {} : { uuid }];
  });
  return described.length > 0 ? described : files.map(() => ({}));
}

/** A device that is split into MIG instances is used through these. */
function withPartitions(uuids: readonly string[]): Device[] {
  const used = uuids.filter(
    (uuid, i) => uuid.startsWith('MIG-') || uuids[i + 1]?.startsWith('MIG-') !== true,
  );
  return used.map((uuid) => ({ uuid }));
}

function rocmDevices(on: System): (Device & { customAllReduce: boolean })[] {
  if (!on.exists('/dev/kfd')) return [];
  const nodes = '/sys/class/kfd/kfd/topology/nodes';
  const numbers = on.list(nodes).sort((a, b) => Number(a) - Number(b));
  return numbers.flatMap((node) => {
    const properties = new Map(
      on
        .read(`${nodes}/${node}/properties`)
        .split('\n')
        .map((line) => line.split(' ') as [string, string]),
    );
    if (!(Number(properties.get('simd_count')) > 0)) return []; // a CPU
    if (!on.exists(`/dev/dri/renderD${properties.get('drm_render_minor')}`)) return []; // another container's
    const id = BigInt(properties.get('unique_id') || 0);
    const target = Number(properties.get('gfx_target_version'));
    return [
      {
        ...(id === 0n ? {} : { uuid: `GPU-${id.toString(16).padStart(16, '0')}` }),
        // gfx94x and gfx95x
        customAllReduce: target >= 90_400 && target < 90_600,
      },
    ];
  });
}
