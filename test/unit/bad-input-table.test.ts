// The table of bad input (test/integration/bad-input.test.ts) has every public call and every option: as the compiler
// reads them from src/index.ts.
import { describe, expect, test } from 'vitest';
import { configCalls } from '../fixtures/bad-input/config-calls.ts';
import { deviceCalls } from '../fixtures/bad-input/device-calls.ts';
import { exclusions } from '../fixtures/bad-input/exclusions.ts';
import { groupCalls } from '../fixtures/bad-input/group-calls.ts';
import { publicCalls } from '../fixtures/bad-input/public-api.ts';
import { storeCalls } from '../fixtures/bad-input/store-calls.ts';

/** `ProcessGroup.reform options.ranks` */
const offered = publicCalls().flatMap(({ name, args }) => args.map((argument) => `${name} ${argument}`));
const calls = [...groupCalls, ...storeCalls, ...configCalls, ...deviceCalls];
const tried = calls.flatMap(({ name, args }) => Object.keys(args).map((argument) => `${name} ${argument}`));

function leftOut(pattern: string): RegExp {
  const escaped = pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  return new RegExp(`^${escaped}$`);
}
const patterns = Object.keys(exclusions).map(leftOut);

describe('the table of bad input', () => {
  test('the compiler has found calls of every kind', () => {
    expect(offered).toEqual(
      expect.arrayContaining([
        'ProcessGroup.allReduce options.timeoutMs',
        'ProcessGroup.allReduce (device) options.stream',
        'new ParallelConfig settings.tensorParallelSize',
        'statelessInitDpGroup config.handOver',
        'TcpStore.listen options.secret',
        'DpEnvironment.peekDpInitPorts count',
      ]),
    );
    expect(offered.filter((each) => /#|backendReason|_address|ProcessGroup\.vote/.test(each))).toEqual([]);
  });

  test('has every public call with all its arguments and options', () => {
    const known = new Set(tried);
    const missing = offered.filter((each) => !known.has(each) && !patterns.some((left) => left.test(each)));
    expect(missing).toEqual([]);
  });

  test('has nothing that is not offered', () => {
    const there = new Set(offered);
    expect(tried.filter((each) => !there.has(each))).toEqual([]);
    const titles = calls.map(({ name, as }) => `${name} ${as ?? ''}`);
    expect(titles.filter((each, i) => titles.indexOf(each) !== i)).toEqual([]);
  });

  test('leaves nothing out that is not there, or is in it', () => {
    expect(
      Object.keys(exclusions).filter((_, i) => !offered.some((each) => patterns[i]?.test(each))),
    ).toEqual([]);
    expect(tried.filter((each) => patterns.some((left) => left.test(each)))).toEqual([]);
  });
});
