// `npm run conformance -- FILE...`: runs case files of the origin's form (docs/configuration.md) against this
// package. The last line is `N passed, M failed`; the exit code is 1 where one failed.
import { die } from './lib.mjs';
import { runTypeScript } from './run-ts.mjs';
import { setup } from './setup.mjs';

try {
  await setup();
  await runTypeScript('scripts/conformance.ts', process.argv.slice(2));
} catch (error) {
  die(error);
}
