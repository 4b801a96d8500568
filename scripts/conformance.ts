/** `npm run conformance -- FILE...`: runs case files; the last line is `N passed, M failed`. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { runFiles } from '../test/fixtures/conformance/run-files.ts';

/** npm runs scripts in the package's folder; a path is meant from where it was typed. */
function located(file: string): string {
  const typed = resolve(process.env['INIT_CWD'] ?? '.', file);
  return existsSync(typed) ? typed : file;
}

const files = process.argv.slice(2).filter((word) => word !== '--');
const { passed, failed } = await runFiles(files.map(located), (line) => console.log(line));
process.exitCode = failed > 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed`);
