// `npm run mutants -- FILES`: changes the code one spot at a time and looks whether a test beside it fails.
// FILES are source files or folders; without any, all that decides over trust. Results are kept, so that only what changed is tried
// again; `--force` tries everything, which constants of modules need: they are not known to belong to any test.
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { setPriority, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Stryker } from '@stryker-mutator/core'
import { DECISIONS } from './decisions.ts'
import { type FileResults, readResults, reportOf } from './report.ts'

const root = resolve(import.meta.dirname, '../..')
const kept = join(root, 'node_modules/.cache/turret/mutants')

const { values, positionals: named } = parseArgs({
  options: { force: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const files = (named.length > 0 ? named : DECISIONS).flatMap(sourceFiles).sort()
process.chdir(root)
mkdirSync(kept, { recursive: true })
setPriority(10)
// Not below node_modules: there Vite takes nothing for related, and Node strips no types. The name is short, since paths of sockets must be.
const temporary = mkdtempSync(join(tmpdir(), 'tm-'))
process.env.TMPDIR = temporary

const results: FileResults[] = []
try {
  for (const [room, members] of Map.groupBy(files, roomOf)) {
    const incrementalFile = join(kept, `${room.replaceAll('/', '-')}.json`)
    await new Stryker({
      mutate: members,
      testRunner: 'vitest',
      vitest: { configFile: 'test/mutants/vitest.config.ts', dir: room, related: true },
      plugins: ['@stryker-mutator/vitest-runner', join(root, 'test/mutants/insignificant.ts')],
      ignorers: ['insignificant'],
      // Texts, and objects without their members, fail by their types or say nothing about trust.
      mutator: { excludedMutations: ['StringLiteral', 'ObjectLiteral', 'OptionalChaining'] },
      // Without tsconfig.json, which Stryker would rewrite with a TypeScript that still had an interface for JavaScript.
      ignorePatterns: [
        '**',
        '!{src,agent,proto,test,workers,bin,drizzle,examples}/**',
        '!package.json',
        'test/runtimes/binaries',
      ],
      concurrency: 1,
      incremental: true,
      incrementalFile,
      force: values.force,
      tempDirName: join(temporary, 'code'),
      reporters: ['progress-append-only'],
      allowConsoleColors: false,
      thresholds: { high: 90, low: 90, break: null },
    }).runMutationTest()
    results.push(...readResults(incrementalFile, members))
  }
} finally {
  rmSync(temporary, { recursive: true, force: true, maxRetries: 3 })
}
const report = reportOf(results, JSON.parse(readFileSync(join(root, 'test/mutants/equivalent.json'), 'utf8')))
writeFileSync(join(kept, 'report.txt'), report)
console.log(report)

function sourceFiles(path: string): string[] {
  const found = statSync(path).isDirectory() ? globSync(`${path}/**/*.ts`) : [path]
  return found.filter((file) => !file.endsWith('.test.ts'))
}

/** The folder whose tests judge a file: each kind of plugin has its own, some with a server to start. */
function roomOf(file: string): string {
  const depth = file.startsWith('src/plugins/') ? 3 : file.startsWith('src/') ? 2 : 1
  return file.split('/').slice(0, depth).join('/')
}
