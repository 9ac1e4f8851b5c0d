import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { commandOf, programOf, type Runtime, skipNote } from '../support/runtimes.ts'

const run = promisify(execFile)
const script = (name: string) => join(import.meta.dirname, name)

// A machine without Go has grpc-js as its only foreign client, in src/transport/grpc.test.ts.
describe.runIf(spawnSync('go', ['version']).status === 0)('over connections that age every 60 ms', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turret-grpc-go-'))
  const client = join(folder, 'client')
  const server = join(folder, 'server')
  beforeAll(async () => {
    await run('go', ['build', '-o', `${folder}/`, './client', './server'], { cwd: script('go/grpc') })
  }, 120_000)
  afterAll(() => rmSync(folder, { recursive: true }))

  for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
    const missing = programOf(runtime) === undefined

    test.skipIf(missing)(
      `grpc-go gets from ${runtime} the answers of a grpc-go server${skipNote(runtime)}`,
      async () => {
        const path = join(folder, `${runtime}.sock`)
        const echo = await start([...commandOf(runtime), script('echo-server.ts'), path])
        try {
          const { stdout } = await run(client, [`unix:${path}`])
          expect(stdout.trim().split('\n')).toEqual([
            'echo: OK "" details=0 bytes=2',
            'big: OK "" details=0 bytes=4000000',
            'too big: ResourceExhausted "grpc: received message larger than max (4194305 vs. 4194304)" details=0 bytes=0',
            'details: PermissionDenied "näh" details=1 bytes=0',
            'method: Unimplemented "unknown method No for service test.Echo" details=0 bytes=0',
            'service: Unimplemented "unknown service test.No" details=0 bytes=0',
            'gzip: OK "" details=0 bytes=1',
            'deadline: DeadlineExceeded "context deadline exceeded" details=0 bytes=0',
            'chat: [5]',
            'chat: [9]',
            'chat end: EOF',
            'failed of 2000: 0',
          ])
        } finally {
          await echo.stop()
        }
        expect(Number(echo.said().split('\n')[1])).toBeGreaterThan(1)
      },
      60_000,
    )

    test.skipIf(missing)(
      `${runtime} gets each answer of a grpc-go server${skipNote(runtime)}`,
      async () => {
        const path = join(folder, `go-${runtime}.sock`)
        const echo = await start([server, path])
        try {
          const [program, ...args] = commandOf(runtime)
          const { stdout } = await run(program, [...args, script('echo-client.ts'), path])
          expect(stdout.trim()).toBe('failed of 4000: 0')
        } finally {
          await echo.stop()
        }
      },
      60_000,
    )
  }
})

interface Running {
  said(): string
  stop(): Promise<void>
}

/** Starts a server and waits for its first word. */
async function start([program, ...args]: readonly string[]): Promise<Running> {
  const server: ChildProcess = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  server.stdout!.on('data', (chunk) => {
    said += chunk
  })
  const ended = once(server, 'close')
  await Promise.race([
    once(server.stdout!, 'data'),
    ended.then(() => {
      throw new Error('the server ended')
    }),
  ])
  return {
    said: () => said,
    async stop() {
      server.kill('SIGTERM')
      await ended
    },
  }
}
