import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const run = promisify(execFile)
const here = (name: string) => join(import.meta.dirname, name)

// A machine without Go has our own host alone, in src/plugin-sdk/start.test.ts.
describe.runIf(spawnSync('go', ['version']).status === 0)('a host of go-plugin', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-plugin-host-'))
  const host = join(folder, 'host')
  beforeAll(async () => {
    await run('go', ['build', '-o', host, '.'], { cwd: here('go/plugin-host') })
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true }))

  test.each([
    ['plain', 'several'],
    ['tls', 'several'],
    ['plain', 'one'],
    ['tls', 'one'],
  ])(
    'speaks %s over %s connections with a plugin, and is called back',
    async (security, connections) => {
      const { stdout } = await run(host, [security, connections, process.execPath, here('counting-plugin.ts')])
      expect(stdout.trim().split('\n')).toEqual([
        '[spire.plugin.agent.workloadattestor.v1.WorkloadAttestor spire.service.common.config.v1.Config]',
        'counted [asked] 1',
        '[example.org:7]',
        'exited: true',
      ])
    },
    60_000,
  )
})
