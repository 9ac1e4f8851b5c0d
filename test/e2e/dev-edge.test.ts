import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { freePort } from '../../examples/nested/free-ports.ts'

const DEV = resolve(import.meta.dirname, '../../examples/edge/dev')
const folder = mkdtempSync(join(tmpdir(), 'turret-dev-edge-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function run(): Promise<string> {
  const args = ['--once', '--port', String(await freePort()), '--folder', join(folder, 'kept')]
  const { stdout, stderr } = await promisify(execFile)(DEV, args, { timeout: 60_000 })
  expect(stderr).toBe('')
  return stdout
}

test('npm run dev:edge starts the server in workerd, says what to try, and finds it all again', async () => {
  const first = await run()
  expect(first).toMatch(/-joinToken [0-9a-f-]{36} /)
  for (const step of ['workerd', 'database, CA and bundle', 'join token'])
    expect(first).toMatch(new RegExp(`✔ ${step}`))
  const kept = (name: string) => readFileSync(join(folder, 'kept', name), 'utf8')
  const secrets = ['kek', 'operator.pem']
  for (const name of secrets) {
    expect(statSync(join(folder, 'kept', name)).mode & 0o777).toBe(0o600)
    expect(first).not.toContain(kept(name).trim())
  }
  const before = [...secrets, 'bundle.json'].map(kept)
  await run()
  expect([...secrets, 'bundle.json'].map(kept)).toEqual(before)
}, 90_000)
