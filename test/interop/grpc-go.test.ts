import { execFile, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { commandOf, programOf, type Runtime, skipNote } from '../support/runtimes.ts'

const run = promisify(execFile)

// A machine without Go has grpc-js as its only foreign client, in src/transport/grpc.test.ts.
describe.runIf(spawnSync('go', ['version']).status === 0)('grpc-go gets the answers of a grpc-go server', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-grpc-go-'))
  const client = join(folder, 'client')
  beforeAll(async () => {
    await run('go', ['build', '-o', client, '.'], { cwd: join(import.meta.dirname, 'go', 'grpcclient') })
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true }))

  for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
    test.skipIf(programOf(runtime) === undefined)(
      `from ${runtime}, over connections that age every 60 ms${skipNote(runtime)}`,
      async () => {
        const path = join(folder, `${runtime}.sock`)
        const [program, ...args] = commandOf(runtime)
        const server = spawn(program, [...args, join(import.meta.dirname, 'echo-server.ts'), path], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        let said = ''
        const listening = new Promise<void>((resolve, reject) => {
          server.stdout.on('data', (chunk) => {
            said += chunk
            resolve()
          })
          server.once('exit', () => reject(new Error('the server ended')))
        })
        const ended = new Promise((resolve) => server.once('close', resolve))
        try {
          await listening
          const { stdout } = await run(client, [`unix:${path}`])
          expect(stdout.trim().split('\n')).toEqual([
            'echo: OK "" details=0 bytes=2',
            'big: OK "" details=0 bytes=4000000',
            'too big: ResourceExhausted "grpc: received message larger than max (4194305 vs. 4194304)" details=0 bytes=0',
            'details: PermissionDenied "näh" details=1 bytes=0',
            'method: Unimplemented "unknown method No for service test.Echo" details=0 bytes=0',
            'service: Unimplemented "unknown service test.No" details=0 bytes=0',
            'gzip: Unimplemented "grpc: Decompressor is not installed for grpc-encoding \\"gzip\\"" details=0 bytes=0',
            'deadline: DeadlineExceeded "context deadline exceeded" details=0 bytes=0',
            'chat: [5]',
            'chat: [9]',
            'chat end: EOF',
            'failed of 2000: 0',
          ])
        } finally {
          server.kill('SIGTERM')
          await ended
        }
        expect(Number(said.split('\n')[1])).toBeGreaterThan(1)
      },
      60_000,
    )
  }
})
