/** What doctor asks of the operating system; tests replace it. */
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { resolveWithin } from '../net/hosts.ts';

export interface Machine {
  /** A file's text, or undefined where there is none. */
  read(file: string): string | undefined;
  /** What is in a folder; nothing where it is not there. */
  list(folder: string): string[];
  /** Size and free space of the file system that a folder lies on, in bytes. */
  space(folder: string): { size: number; free: number } | undefined;
  interfaces(): ReturnType<typeof networkInterfaces>;
  /** A host's addresses, best first; throws a CollectivesError. */
  resolve(host: string): Promise<string[]>;
}

export const machine: Machine = {
  read(file) {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return undefined;
    }
  },
  list(folder) {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  },
  space(folder) {
    try {
      const { bsize, blocks, bavail } = statfsSync(folder);
      return { size: bsize * blocks, free: bsize * bavail };
    } catch {
      return undefined;
    }
  },
  interfaces: networkInterfaces,
  resolve: (host) => resolveWithin('doctor', host, 5_000),
};

/** Bytes as a person says them. */
export function amount(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
