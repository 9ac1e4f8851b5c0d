// Runs vitest on the Node that runs this file, and closes with a line that says how many tests passed.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const report = join(root, 'node_modules/.cache/turret/test-report.json')
mkdirSync(join(report, '..'), { recursive: true })
// All temporary files of a run lie in one folder, which goes with it. Its name is short, since paths of sockets must be; other users of
// this machine may look through it, since some tests start processes as them.
const temporary = mkdtempSync(join(tmpdir(), 'tt-'))
chmodSync(temporary, 0o755)
const vitest = join(root, 'node_modules/vitest/vitest.mjs')
const { status } = spawnSync(
  process.execPath,
  [vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...process.argv.slice(2)],
  { cwd: root, stdio: 'inherit', env: { ...process.env, TMPDIR: temporary } },
)
try {
  rmSync(temporary, { recursive: true, force: true, maxRetries: 3 })
} catch (error) {
  console.warn(`temporary files are left in ${temporary}: ${error.message}`)
}
try {
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(report, 'utf8'))
  console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`)
} catch {
  console.log('0 passed, 1 failed')
}
process.exit(status ?? 1)
