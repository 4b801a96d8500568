import { describe, expect, it } from 'vitest';
import { LinePrefixer, rankPrefix } from '../../src/launch/lines.ts';

function through(prefixer: LinePrefixer, chunks: readonly Buffer[]): string {
  return Buffer.concat([...chunks.map((c) => prefixer.push(c)), prefixer.end()]).toString();
}

describe('LinePrefixer', () => {
  const text = Buffer.from('one\n\ntwo ü three\r\n\nfour');
  const expected = '> one\n> \n> two ü three\r\n> \n> four\n';

  it('gives the same whatever the chunks are', () => {
    for (let size = 1; size <= text.length; size++) {
      const chunks = [];
      for (let at = 0; at < text.length; at += size) chunks.push(text.subarray(at, at + size));
      expect(through(new LinePrefixer('> '), chunks), `chunks of ${size}`).toBe(expected);
    }
  });

  it('gives out whole lines only', () => {
    const lines = new LinePrefixer('> ');
    expect(lines.push(Buffer.from('a')).toString()).toBe('');
    expect(lines.push(Buffer.from('b\nc')).toString()).toBe('> ab\n');
    expect(lines.push(Buffer.from('\n')).toString()).toBe('> c\n');
    expect(lines.end().toString()).toBe('');
  });

  it('changes nothing without a prefix, but ends the last line', () => {
    expect(through(new LinePrefixer(''), [text])).toBe(`${text.toString()}\n`);
  });

  it('keeps bytes that are no UTF-8', () => {
    const bytes = Buffer.from([0xff, 0x00, 0xfe, 0x0a]);
    expect(new LinePrefixer('').push(bytes)).toEqual(bytes);
  });

  it('cuts endless lines, between characters', () => {
    const lines = new LinePrefixer('> ', 8);
    expect(through(lines, [Buffer.from('1234567ü9'), Buffer.from('a\nb\n')])).toBe('> 1234567\n> ü9a\n> b\n');
    const long = new LinePrefixer('', 16);
    let out = 0;
    for (let i = 0; i < 1000; i++) out += long.push(Buffer.from('xyz')).filter((b) => b !== 10).length;
    out += long.end().filter((b) => b !== 10).length;
    expect(out).toBe(3000);
  });
});

describe('rankPrefix', () => {
  it('has colour only where wanted', () => {
    expect(rankPrefix(2, false)).toBe('[rank 2] ');
    expect(rankPrefix(12, true)).toBe('\u001b[32m[rank 12]\u001b[0m ');
  });
});
