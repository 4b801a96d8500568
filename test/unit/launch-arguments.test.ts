import { describe, expect, it } from 'vitest';
import { parseLaunchArgs } from '../../src/cli/launch.ts';
import { editDistance, nearest, UsageError } from '../../src/cli/usage.ts';

describe('parseLaunchArgs', () => {
  const defaults = { listenFd: true, prefix: true, stdin: 'none' };

  it.each<[string, object]>([
    ['--nproc 4 node e.js', { nproc: 4, command: ['node', 'e.js'] }],
    ['-n 4 -- node e.js', { nproc: 4, command: ['node', 'e.js'] }],
    ['-n4 node e.js --nproc 9 -- -h', { nproc: 4, command: ['node', 'e.js', '--nproc', '9', '--', '-h'] }],
    [
      '--nproc=2 --master-addr ::1 --master-port 1 x',
      { nproc: 2, command: ['x'], masterAddr: '::1', masterPort: 1 },
    ],
    [
      '-n 1 --no-listen-fd --no-prefix --stdin 0 x',
      { nproc: 1, command: ['x'], listenFd: false, prefix: false, stdin: '0' },
    ],
    ['-n 1 --grace-ms 0 -- --odd-name', { nproc: 1, command: ['--odd-name'], graceMs: 0 }],
  ])('%s', (line, expected) => {
    expect(parseLaunchArgs(line.split(' '))).toEqual({ ...defaults, ...expected });
  });

  it('asks for help', () => {
    expect(parseLaunchArgs(['--help'])).toBe('help');
    expect(parseLaunchArgs(['-h', 'x'])).toBe('help');
  });

  it.each([
    ['', /--nproc is required/],
    ['x', /--nproc is required/],
    ['-n 2', /no program/],
    ['-n 2 --', /no program/],
    ['-n two x', /--nproc must be a whole number from 1 to 1024, it is 'two'/],
    ['-n 0 x', /--nproc must be/],
    ['-n 2 --master-port 65536 x', /--master-port must be/],
    ['-n 2 --stdin 1 x', /--stdin must be none or 0/],
    ['-n 2 --gracems 1 x', /unknown option --gracems\. Did you mean --grace-ms\?/],
    ['-n 2 --master-prot 1 x', /Did you mean --master-port\?/],
    ['-n 2 --entirely-else x', /unknown option --entirely-else$/],
    ['-q 2 x', /unknown option -q/],
    ['--nproc', /argument missing/],
    ['-n 2 --no-prefix=yes x', /--no-prefix.*does not take an argument/],
  ])('refuses: %s', (line, message) => {
    const parse = () => parseLaunchArgs(line.split(' ').filter((word) => word !== ''));
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });
});

describe('suggestions', () => {
  it('count edits', () => {
    expect(editDistance('nproc', 'nproc')).toBe(0);
    expect(editDistance('nrpoc', 'nproc')).toBe(1);
    expect(editDistance('', 'abc')).toBe(3);
    expect(editDistance('kitten', 'sitting')).toBe(3);
  });

  it('find the word that was meant, or none', () => {
    const known = ['launch', 'doctor', 'bench', 'config'];
    expect(nearest('lunch', known)).toBe('launch');
    expect(nearest('CONFIG', known)).toBe('config');
    expect(nearest('conf', known)).toBe('config');
    expect(nearest('serve', known)).toBeUndefined();
  });
});
