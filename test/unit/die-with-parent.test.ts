// Arguments of dieWithParent() and its variable; what it does is test/integration/die-with-parent.test.ts. Were a wrong
// argument taken, this process would die with vitest, and nobody would see: hence no good ones here.
import { dieWithParent, InvalidArgumentError } from 'node-collectives';
import { describe, expect, test } from 'vitest';
import { dieWithParentVariable, dieWithParentWhereAsked } from '../../src/process/die-with-parent.ts';

describe('what dieWithParent() refuses', () => {
  test.each<[unknown, string]>([
    [null, 'options'],
    ['SIGTERM', 'options'],
    [{ ppid: 1 }, 'ppid'],
    ...[0, -1, 1.5, Number.NaN, '7', 7n, null, 2 ** 22 + 1].map(
      (parent) => [{ parent }, 'parent'] as [unknown, string],
    ),
    ...['SIGSTOP', 'kill', 9, null, Symbol('x')].map((signal) => [{ signal }, 'signal'] as [unknown, string]),
    ...[-1, 0.5, Number.POSITIVE_INFINITY, '5', null, 2 ** 31].map(
      (graceMs) => [{ signal: 'SIGTERM', graceMs }, 'graceMs'] as [unknown, string],
    ),
    [{ graceMs: 5 }, 'graceMs'],
  ])('%o', (options, name) => {
    expect(() => dieWithParent(options as object)).toThrow(InvalidArgumentError);
    expect(() => dieWithParent(options as object)).toThrow(new RegExp(`^dieWithParent: .*${name}`));
  });
});

describe(dieWithParentVariable, () => {
  test.each(['yes', '-1', '1.5', '99999999', '0x1'])('%s is refused', (value) => {
    const env = { [dieWithParentVariable]: value };
    expect(() => dieWithParentWhereAsked(env)).toThrow(InvalidArgumentError);
    expect(() => dieWithParentWhereAsked(env)).toThrow(dieWithParentVariable);
  });

  test.each([undefined, '', ' ', '0'])('%s asks for nothing', (value) => {
    expect(() => dieWithParentWhereAsked({ [dieWithParentVariable]: value })).not.toThrow();
  });
});
