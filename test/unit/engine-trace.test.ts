import { describe, expect, it } from 'vitest';
import { generateTrace } from '../../examples/01-dp-engine/generate-trace.ts';
import { describeProblems, parseTrace } from '../../examples/01-dp-engine/trace.ts';

const rows = (text: string) =>
  parseTrace(text).requests.map((r) => [r.arrival, r.promptTokens, r.generatedTokens]);

describe('parseTrace', () => {
  it('reads times as dates, with a header, CRLF and no last newline', () => {
    const text =
      '\uFEFFTIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.9799600,3180,8';
    const { requests, problems } = parseTrace(text);
    expect(problems).toEqual([]);
    expect(requests).toHaveLength(2);
    expect(requests[0]).toEqual({ index: 0, arrival: 0, promptTokens: 4808, generatedTokens: 10 });
    expect(requests[1]?.arrival).toBeCloseTo(1, 6);
  });

  it('reads seconds without a header, and columns in any order with one', () => {
    expect(rows('10,1,2\n12.5,3,4\n')).toEqual([
      [0, 1, 2],
      [2.5, 3, 4],
    ]);
    expect(rows('id,generated_tokens,arrival_seconds,"prompt tokens"\na,1,5,2\n')).toEqual([[0, 2, 1]]);
  });

  it('reports each malformed line by number and uses all others', () => {
    const lines: [string, RegExp | undefined][] = [
      ['arrival,prompt_tokens,generated_tokens', undefined],
      ['1,10,5', undefined],
      ['', undefined],
      ['2,-10,5', /prompt tokens must be a whole number from 1 .* it is "-10"/],
      ['2,10', /has 2 columns instead of 3/],
      ['2,10,5,7', /has 4 columns/],
      ['"2","10","5"', undefined],
      ['"2,10,5', /a quote is out of place/],
      ['2,1"0,5', /a quote is out of place/],
      ['  3 , 10 , 5  ', undefined],
      ['soon,10,5', /the time must be seconds or/],
      ['-1,10,5', /not negative/],
      ['3,1e3,5', /prompt tokens must be/],
      ['3,10.5,5', /prompt tokens must be/],
      ['3,0,5', /from 1 to/],
      ['3,10,0', undefined],
      ['3,10,99999999999', /generated tokens must be/],
      ['3,,5', /it is ""/],
      ['2023-11-16 18:17:03,10,5', /the time is a date, that of the lines before is a number/],
      ['   ', undefined],
      ['4,10,5', undefined],
    ];
    const { requests, problems } = parseTrace(lines.map(([line]) => line).join('\r\n'));
    const bad = lines.flatMap(([, text], i) => (text === undefined ? [] : [{ line: i + 1, text }]));
    expect(problems.map((p) => p.line)).toEqual(bad.map((b) => b.line));
    for (const [i, { text }] of bad.entries()) expect(problems[i]?.text).toMatch(text);
    expect(requests.map((r) => r.arrival)).toEqual([0, 1, 2, 2, 3]);
    expect(requests.map((r) => r.index)).toEqual([0, 1, 2, 3, 4]);
  });

  it('knows dates that do not exist', () => {
    const text =
      '2023-02-28 10:00:00,1,1\n2023-02-30 10:00:00,1,1\n2023-13-01 10:00:00,1,1\n2023-02-28 24:00:01,1,1';
    const { requests, problems } = parseTrace(text);
    expect(requests).toHaveLength(1);
    expect(problems.map((p) => p.line)).toEqual([2, 3, 4]);
  });

  it('keeps lines that are out of order, in order of time', () => {
    const { requests, problems } = parseTrace('5,50,1\n3,30,1\n4,40,1\n4,41,1\n');
    expect(requests.map((r) => r.promptTokens)).toEqual([30, 40, 41, 50]);
    expect(problems).toEqual([
      { line: 2, text: 'arrives before line 1; taken in order of time', kept: true },
    ]);
  });

  it('says so when the header is another one, and still takes the rest', () => {
    const { requests, problems } = parseTrace('when,in,out\n1,2,3\n');
    expect(problems).toMatchObject([{ line: 1, kept: false }]);
    expect(requests).toHaveLength(1);
    expect(parseTrace('')).toEqual({ requests: [], problems: [] });
  });

  it('lists many problems without filling the screen, each with its number', () => {
    const { problems } = parseTrace(`1,1,1\n${'x,1,1\n'.repeat(30)}1,1,1\ny,1,1\n`);
    const lines = describeProblems(problems, 2);
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^line 2: .*; left out$/);
    expect(lines[2]).toBe('29 more: lines 4-31, 33');
  });
});

describe('the trace that comes with the example', () => {
  it('is read without problems, the same for the same seed', () => {
    const text = generateTrace(7, 50);
    expect(generateTrace(7, 50)).toBe(text);
    expect(generateTrace(8, 50)).not.toBe(text);
    const { requests, problems } = parseTrace(text);
    expect(requests).toHaveLength(50);
    expect(problems).toEqual([]);
  });
});
