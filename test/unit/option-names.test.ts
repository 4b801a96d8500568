// Options whose names nobody knows: refused, with what was probably meant.
import { InvalidArgumentError } from 'node-collectives';
import { expect, test } from 'vitest';
import { checkNames, optionNames } from '../../src/option-names.ts';

interface Options {
  timeoutMs?: number;
  signal?: AbortSignal;
  why?: string;
}
const names = optionNames<Options>({ timeoutMs: true, signal: true, why: false });

const check = (options: object) => () => checkNames('op', options, names);

test.each([
  [
    { timeoutMS: 5 },
    "op: there is no option 'timeoutMS'; did you mean timeoutMs? There are timeoutMs, signal",
  ],
  [{ colour: 'red' }, "op: there is no option 'colour'; there are timeoutMs, signal"],
  [{ timeoutMs: 5, Signal: 1 }, "there is no option 'Signal'; did you mean signal?"],
  [{ colour: undefined }, "there is no option 'colour'"],
  [['x'], "there is no option '0'"],
  [
    new AbortController().signal,
    'options must be an object of options, but is an AbortSignal; give it as `signal` in one',
  ],
])('%j is refused', (options, text) => {
  expect(check(options)).toThrow(InvalidArgumentError);
  expect(check(options)).toThrow(text);
});

test.each([
  ['nothing', {}],
  ['known ones', { timeoutMs: undefined, signal: undefined }],
  ['one that is not offered', { why: 'x' }],
  ['inherited names', Object.create({ colour: 'red' })],
  ['names that cannot be listed', Object.defineProperty({}, 'colour', { value: 'red' })],
  ['no prototype', Object.create(null)],
])('%s is taken', (_, options) => {
  check(options)();
});
