/**
 * How much memory this process could really still take: the host's, or less where a control group limits it.
 */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface FreeMemory {
  /** Bytes. */
  readonly bytes: number;
  /** What set the bound: `host`, or the control group's folder. */
  readonly limitedBy: string;
}

/**
 * The smallest of the host's available memory and the room under every limit of this process's control groups
 * (versions 1 and 2), file cache that the kernel would give back counted as free. `root` is for tests.
 */
export function freeMemory(root = '/'): FreeMemory {
  const info = read(join(root, 'proc/meminfo')) ?? '';
  const field = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(info)?.[1] ?? 0) * 1024;
  let best: FreeMemory = { bytes: field('MemAvailable'), limitedBy: 'host' };
  for (const folder of groupFolders(root)) {
    const free = roomIn(folder, field('MemTotal'));
    if (free !== undefined && free < best.bytes) best = { bytes: free, limitedBy: folder };
  }
  return best;
}

/** The folders of the process's memory control group and of all its parents, innermost first. */
function groupFolders(root: string): string[] {
  const folders: string[] = [];
  const groups = (read(join(root, 'proc/self/cgroup')) ?? '').split('\n');
  for (const mount of (read(join(root, 'proc/self/mountinfo')) ?? '').split('\n')) {
    // ID PARENT DEV ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE SUPEROPTIONS
    const [left = '', right = ''] = mount.split(' - ');
    const [, , , mountRoot = '/', mountPoint = ''] = left.split(' ');
    const [type, , superOptions = ''] = right.split(' ');
    const v2 = type === 'cgroup2';
    if (!v2 && !(type === 'cgroup' && superOptions.split(',').includes('memory'))) continue;
    const line = groups.find((g) =>
      v2 ? g.startsWith('0::') : (g.split(':')[1] ?? '').split(',').includes('memory'),
    );
    const path = line?.split(':').slice(2).join(':') ?? '/';
    // In a container the mount shows only the part below `mountRoot`; a path outside of it cannot be seen.
    const below = mountRoot !== '/' && path.startsWith(mountRoot) ? path.slice(mountRoot.length) : path;
    const top = join(root, mountPoint);
    let folder = join(top, below);
    while (!existsSync(folder) && folder.length > top.length) folder = dirname(folder);
    for (; folder.length >= top.length; folder = dirname(folder)) folders.push(folder);
  }
  return folders;
}

function roomIn(folder: string, hostTotal: number): number | undefined {
  const v2 = number(join(folder, 'memory.max'));
  const limit = v2 ?? number(join(folder, 'memory.limit_in_bytes'));
  const used = number(join(folder, 'memory.current')) ?? number(join(folder, 'memory.usage_in_bytes'));
  // Version 1 says "no limit" with a number near 2^63.
  if (limit === undefined || used === undefined || limit > hostTotal) return undefined;
  const stat = read(join(folder, 'memory.stat')) ?? '';
  // Version 1 has the sum over all groups below as `total_...`, version 2 counts them in anyway.
  const cache = (/^total_inactive_file (\d+)$/m.exec(stat) ?? /^inactive_file (\d+)$/m.exec(stat))?.[1] ?? 0;
  return Math.max(0, limit - Math.max(0, used - Number(cache)));
}

function number(file: string): number | undefined {
  const text = read(file)?.trim();
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
