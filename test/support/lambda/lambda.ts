import { spawn, spawnSync } from 'node:child_process'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'

const RIC = resolve(import.meta.dirname, '../../../node_modules/.cache/turret/lambda-ric')

/** Why AWS's runtime interface client cannot be built here; empty if it can. */
export const lambdaMissing =
  process.platform !== 'linux'
    ? 'it is for Linux'
    : (['cmake', 'make', 'g++'].find((tool) => spawnSync(tool, ['--version']).status !== 0) ?? '')

export interface LambdaFunction {
  /** Invokes it with an event, as the service would; calls wait for each other. */
  invoke(event: unknown): Promise<unknown>
  logged(): string
  stop(): Promise<void>
}

interface Invocation {
  readonly event: unknown
  resolve(answer: unknown): void
  reject(error: Error): void
}

/**
 * Runs a function as AWS does: its own runtime interface client in front of a Runtime API.
 * @param folder holds index.js, whose `handler` is called
 */
export async function startLambda(folder: string, env: Readonly<Record<string, string>>): Promise<LambdaFunction> {
  const { status } = spawnSync(join(import.meta.dirname, 'setup'), [RIC], { stdio: 'inherit' })
  if (status !== 0) throw new Error('the runtime interface client could not be built')

  const waiting: Invocation[] = []
  const running = new Map<string, Invocation>()
  let idle: ServerResponse | undefined
  let count = 0

  function hand(response: ServerResponse, invocation: Invocation): void {
    count += 1
    const id = `request-${count}`
    running.set(id, invocation)
    response.writeHead(200, {
      'content-type': 'application/json',
      'lambda-runtime-aws-request-id': id,
      'lambda-runtime-deadline-ms': String(Date.now() + 30_000),
      'lambda-runtime-invoked-function-arn': 'arn:aws:lambda:eu-central-1:123456789012:function:turret',
    })
    response.end(JSON.stringify(invocation.event))
  }

  /** @see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html */
  const api = createServer(async (request, response) => {
    const [, , , what, id, kind] = (request.url ?? '').split('/')
    if (what === 'invocation' && id === 'next') {
      const next = waiting.shift()
      if (next) hand(response, next)
      else idle = response
      return
    }
    const body = await read(request)
    const invocation = running.get(id ?? '')
    if (kind === 'response') invocation?.resolve(JSON.parse(body))
    else invocation?.reject(new Error(body))
    response.writeHead(202, { 'content-type': 'application/json' }).end('{"status":"OK"}')
  })
  await new Promise<void>((done) => api.listen(0, '127.0.0.1', done))
  const { port } = api.address() as AddressInfo

  let output = ''
  const child = spawn(process.execPath, [join(RIC, 'node_modules/aws-lambda-ric/index.mjs'), 'index.handler'], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      ...env,
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${port}`,
      _HANDLER: 'index.handler',
      LAMBDA_TASK_ROOT: folder,
      AWS_LAMBDA_FUNCTION_NAME: 'turret',
      AWS_LAMBDA_FUNCTION_VERSION: '1',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
      AWS_LAMBDA_LOG_GROUP_NAME: 'group',
      AWS_LAMBDA_LOG_STREAM_NAME: 'stream',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  const ended = new Promise<void>((end) => child.once('exit', () => end()))
  void ended.then(() => {
    for (const invocation of [...waiting, ...running.values()])
      invocation.reject(new Error(`the function ended: ${output}`))
  })

  return {
    invoke: (event) =>
      new Promise((done, reject) => {
        const invocation: Invocation = { event, resolve: done, reject }
        const free = idle
        idle = undefined
        if (free) hand(free, invocation)
        else waiting.push(invocation)
      }),
    logged: () => output,
    async stop() {
      child.kill('SIGKILL')
      await ended
      api.closeAllConnections()
      await new Promise((done) => api.close(done))
    },
  }
}

/** Calls a function as its function URL does (events of version 2). */
export function functionUrl(lambda: LambdaFunction): typeof fetch {
  return (async (input: Request | string | URL, init?: RequestInit) => {
    const request = new Request(input, init)
    const url = new URL(request.url)
    const body = Buffer.from(await request.arrayBuffer())
    const answer = (await lambda.invoke({
      version: '2.0',
      routeKey: '$default',
      rawPath: url.pathname,
      rawQueryString: url.search.slice(1),
      headers: { ...Object.fromEntries(request.headers), host: url.host },
      requestContext: {
        accountId: 'anonymous',
        apiId: 'turret',
        domainName: url.host,
        domainPrefix: 'turret',
        http: {
          method: request.method,
          path: url.pathname,
          protocol: 'HTTP/1.1',
          sourceIp: '192.0.2.7',
          userAgent: 't',
        },
        requestId: 'r',
        routeKey: '$default',
        stage: '$default',
        time: '',
        timeEpoch: 0,
      },
      body: body.length > 0 ? body.toString('base64') : undefined,
      isBase64Encoded: body.length > 0,
    })) as { statusCode: number; headers: Record<string, string>; body?: string; isBase64Encoded?: boolean }
    const bytes = Buffer.from(answer.body ?? '', answer.isBase64Encoded ? 'base64' : 'utf8')
    const empty = [101, 204, 205, 304].includes(answer.statusCode)
    return new Response(empty ? null : bytes, { status: answer.statusCode, headers: answer.headers })
  }) as typeof fetch
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
