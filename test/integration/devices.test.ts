import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { binding, type LibraryProbe } from '../../src/native/binding.ts';

describe('probeDevices', () => {
  it('tells of each library that was not found what was tried and why it was not taken', () => {
    const folder = mkdtempSync(join(tmpdir(), 'node-collectives-devices-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const text = join(folder, 'text.so');
    writeFileSync(text, 'no library');
    const none = join(folder, 'none.so');
    const probe = binding().probeDevices({ cudaPath: none, hipPath: text, ncclPath: none, rcclPath: text });

    const expectOne = (found: LibraryProbe, path: string, reason: string) => {
      expect(found).toMatchObject({ loaded: false, attempts: [{ source: 'option', path, reason }] });
      expect(found.error).toContain(`${path} (option): ${reason}`);
      expect(found).not.toHaveProperty('path');
      expect(found).not.toHaveProperty('version');
    };
    const missing = 'No such file or directory (ENOENT)';
    expectOne(probe.cuda, none, missing);
    expectOne(probe.nccl, none, missing);
    expectOne(probe.hip, text, 'not a shared library (no ELF header)');
    expectOne(probe.rccl, text, 'not a shared library (no ELF header)');
    expect(probe.cuda.devices).toEqual([]);
    expect(probe.cuda.peers).toEqual([]);
  });

  it('searches by itself, and comes to one result for each library', () => {
    const probe = binding().probeDevices();
    for (const found of [probe.cuda, probe.hip, probe.nccl, probe.rccl]) {
      expect(found.attempts.length).toBeGreaterThan(0);
      const reasons = found.attempts.map((attempt) => attempt.reason);
      // Only the last may have been taken.
      expect(reasons.slice(0, -1)).not.toContain(undefined);
      expect(reasons.at(-1) === undefined).toBe(found.loaded);
      expect(found.error === undefined || found.error.length > 0).toBe(true);
      if (found.error === undefined) expect(found.version).toMatch(/^\d+\.\d+/);
    }
  });
});
