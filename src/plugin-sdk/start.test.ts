import { existsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { createServer } from 'node:tls'
import { expect, test } from 'vitest'
import { Empty as Nothing } from '../../proto/google/protobuf/empty.ts'
import { HealthCheckRequest, HealthCheckResponse } from '../../proto/grpc/health/v1.ts'
import { StdioData } from '../../proto/hashicorp/plugin.ts'
import { IncrCounterRequest } from '../../proto/spire/hostservice/common/metrics/v1.ts'
import { GetAgentInfoRequest, GetAgentInfoResponse } from '../../proto/spire/hostservice/server/agentstore/v1.ts'
import {
  FetchX509IdentityRequest,
  FetchX509IdentityResponse,
} from '../../proto/spire/hostservice/server/identityprovider/v1.ts'
import {
  AttestReferenceRequest,
  AttestReferenceResponse,
  AttestRequest,
  AttestResponse,
} from '../../proto/spire/plugin/agent/workloadattestor/v1.ts'
import * as server from '../../proto/spire/plugin/server/nodeattestor/v1.ts'
import { ValidateRequest, ValidateResponse } from '../../proto/spire/service/common/config/v1.ts'
import { hostPlugin } from '../../test/support/plugin-host.ts'
import { systemClock } from '../core/clock.ts'
import { StatusError } from '../core/error.ts'
import { silentLog } from '../core/log.ts'
import { encodePem } from '../core/pem.ts'
import { unary } from '../rpc/method.ts'
import { autoMtls } from './auto-mtls.ts'
import type { PluginProgram } from './program.ts'
import { startPlugin } from './start.ts'

const WORKLOAD_ATTESTOR = 'spire.plugin.agent.workloadattestor.v1.WorkloadAttestor'
const attest = { path: `/${WORKLOAD_ATTESTOR}/Attest`, request: AttestRequest, response: AttestResponse }

/** Says under which prefix it was configured, and notes what became of it. */
function prefixed(notes: string[] = []): PluginProgram<'agent/WorkloadAttestor', string> {
  return {
    kind: 'agent/WorkloadAttestor',
    read({ data }) {
      if (typeof data.prefix !== 'string') throw new Error('prefix is required')
      return data.prefix
    },
    make(prefix) {
      if (prefix === 'bad') throw new Error('nothing answers')
      return {
        async attest({ pid }) {
          if (pid === 1) throw new StatusError('PERMISSION_DENIED', 'not that one')
          if (pid === 2) throw new Error('a bug')
          return { selectorValues: [`${prefix}:${pid}`] }
        },
        close: () => void notes.push(`closed ${prefix}`),
      }
    },
  }
}

test('a plugin says its services, takes HCL or JSON, and serves by the newest configuration that could be used', async () => {
  const notes: string[] = []
  await using host = await hostPlugin(prefixed(notes))
  expect(host.services).toEqual([WORKLOAD_ATTESTOR, 'spire.service.common.config.v1.Config'])
  await expect(host.call(attest, { pid: 7 })).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: 'not configured',
  })
  await host.configure('prefix = "a"')
  expect(await host.call(attest, { pid: 7 })).toEqual({ selectorValues: ['a:7'] })
  await host.configure('{"prefix": "b"}')
  expect(await host.call(attest, { pid: 7 })).toEqual({ selectorValues: ['b:7'] })
  expect(notes).toEqual(['closed a'])
  await expect(host.configure('prefix = "bad"')).rejects.toMatchObject({ code: 'UNKNOWN', message: 'nothing answers' })
  expect(await host.call(attest, { pid: 7 })).toEqual({ selectorValues: ['b:7'] })
  await host.deinit()
  expect(notes).toEqual(['closed a', 'closed b'])
})

test.each([
  ['what cannot be read', 'prefix = ', 'example.org', 'unable to decode configuration: '],
  ['what the plugin refuses', '', 'example.org', 'prefix is required'],
  ['no trust domain', 'prefix = "a"', '', 'server core configuration must contain trust_domain'],
  ['what is no trust domain', 'prefix = "a"', 'A', 'server core configuration trust_domain is malformed: '],
])('%s is an invalid argument, and Validate says so', async (_, hclConfiguration, trustDomain, text) => {
  await using host = await hostPlugin(prefixed())
  const message = expect.stringContaining(text)
  await expect(host.configure(hclConfiguration, trustDomain)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message,
  })
  const validate = {
    path: '/spire.service.common.config.v1.Config/Validate',
    request: ValidateRequest,
    response: ValidateResponse,
  }
  const ask = (hcl: string, name: string) =>
    host.call(validate, { coreConfiguration: { trustDomain: name }, hclConfiguration: hcl })
  expect(await ask(hclConfiguration, trustDomain)).toEqual({ valid: false, notes: [message] })
  expect(await ask('prefix = "a"', 'example.org')).toEqual({ valid: true, notes: [] })
})

test('codes travel, other errors are unknown with their text, and what a plugin does not do is unimplemented', async () => {
  await using host = await hostPlugin(prefixed())
  await host.configure('prefix = "a"')
  await expect(host.call(attest, { pid: 1 })).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: 'not that one',
  })
  await expect(host.call(attest, { pid: 2 })).rejects.toMatchObject({ code: 'UNKNOWN', message: 'a bug' })
  const attestReference = {
    path: `/${WORKLOAD_ATTESTOR}/AttestReference`,
    request: AttestReferenceRequest,
    response: AttestReferenceResponse,
  }
  await expect(host.call(attestReference, { reference: undefined })).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
    message: 'method AttestReference not implemented',
  })
})

test('a plugin without configuration works from Init on, has no Config service, and streams both ways', async () => {
  await using host = await hostPlugin({
    kind: 'server/NodeAttestor',
    make: () => ({
      async *attest(requests) {
        let asked = 0
        for await (const { payload, challengeResponse } of requests) {
          const said = new TextDecoder().decode(payload ?? challengeResponse)
          if (said === 'no') throw new StatusError('PERMISSION_DENIED', 'go away')
          if (asked++ === 0) yield { challenge: new TextEncoder().encode(`what of ${said}?`) }
          else
            yield {
              agentAttributes: {
                spiffeId: 'spiffe://example.org/spire/agent/x/1',
                selectorValues: [said],
                canReattest: true,
              },
            }
        }
      },
    }),
  })
  expect(host.services).toEqual(['spire.plugin.server.nodeattestor.v1.NodeAttestor'])
  await expect(host.configure('')).rejects.toMatchObject({ code: 'UNIMPLEMENTED' })
  const path = '/spire.plugin.server.nodeattestor.v1.NodeAttestor/Attest'
  const talk = async (...said: string[]) => {
    const call = host.channel.bidi({ path, request: server.AttestRequest, response: server.AttestResponse })
    const heard: unknown[] = []
    const bytes = (text: string) => new TextEncoder().encode(text)
    await call.send({ payload: bytes(said[0]!) })
    for await (const { challenge, agentAttributes } of call.messages) {
      heard.push(agentAttributes?.selectorValues ?? new TextDecoder().decode(challenge))
      if (heard.length === said.length) call.end()
      else await call.send({ challengeResponse: bytes(said[heard.length]!) })
    }
    return heard
  }
  expect(await talk('me', 'this')).toEqual(['what of me?', ['this']])
  await expect(talk('me', 'no')).rejects.toMatchObject({ code: 'PERMISSION_DENIED', message: 'go away' })
})

test('host services are called where the host has them', async () => {
  const counted: unknown[] = []
  let report = (): void => {}
  const reported = new Promise<void>((resolve) => {
    report = resolve
  })
  const program: PluginProgram<'server/Notifier', unknown> = {
    kind: 'server/Notifier',
    make: (_, host) => ({
      async notify() {
        host.metrics.incrCounter(['a', 'b'], 2, { l: 'm' })
        const { bundle } = await host.fetchX509Identity()
        throw new StatusError('ABORTED', `bundle of ${bundle?.trustDomain}`)
      },
    }),
  }
  const notify = {
    path: '/spire.plugin.server.notifier.v1.Notifier/Notify',
    request: Nothing,
    response: Nothing,
  }
  {
    await using host = await hostPlugin(program, {
      services: [
        unary({
          path: '/spire.hostservice.common.metrics.v1.Metrics/IncrCounter',
          request: IncrCounterRequest,
          response: Nothing,
          async handle(_, request) {
            counted.push(request)
            report()
            return {}
          },
        }),
        unary({
          path: '/spire.hostservice.server.identityprovider.v1.IdentityProvider/FetchX509Identity',
          request: FetchX509IdentityRequest,
          response: FetchX509IdentityResponse,
          handle: async () => ({
            identity: undefined,
            bundle: {
              trustDomain: 'example.org',
              x509Authorities: [],
              jwtAuthorities: [],
              witAuthorities: [],
              refreshHint: 0,
              sequenceNumber: 0,
            },
          }),
        }),
      ],
    })
    await expect(host.call(notify, {})).rejects.toMatchObject({ code: 'ABORTED', message: 'bundle of example.org' })
    await reported
    expect(counted).toEqual([{ key: ['a', 'b'], val: 2, labels: [{ name: 'l', value: 'm' }] }])
  }
  await using bare = await hostPlugin(program)
  await expect(bare.call(notify, {})).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
    message: 'host has no service spire.hostservice.server.identityprovider.v1.IdentityProvider',
  })
})

test('health answers for plugin, and what was printed is streamed', async () => {
  await using host = await hostPlugin(prefixed())
  const check = { path: '/grpc.health.v1.Health/Check', request: HealthCheckRequest, response: HealthCheckResponse }
  expect(await host.call(check, { service: 'plugin' })).toEqual({ status: 1 })
  await expect(host.call(check, { service: 'other' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  host.plugin.output.print('STDOUT', new TextEncoder().encode('one'))
  const stdio = { path: '/plugin.GRPCStdio/StreamStdio', request: Nothing, response: StdioData }
  for await (const { channel, data } of host.channel.serverStream(stdio, {})) {
    expect([channel, new TextDecoder().decode(data)]).toEqual([1, 'one'])
    break
  }
})

test('a plugin ends when it is shut down, and when its host is gone; its socket goes with it', async () => {
  const notes: string[] = []
  for (const end of ['shutdown', 'gone'] as const) {
    await using host = await hostPlugin(prefixed(notes))
    await host.configure(`prefix = "${end}"`)
    const folder = dirname(host.plugin.line.split('|')[3]!)
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    if (end === 'shutdown') await host.shutdown()
    else host.leave()
    await host.plugin.ended
    expect(existsSync(folder)).toBe(false)
  }
  expect(notes).toEqual(['closed shutdown', 'closed gone'])
})

test('somebody who looks in and leaves does not end a plugin that has no host yet', async () => {
  const plugin = await startPlugin(prefixed(), { env: {}, log: silentLog })
  const { connect } = await import('node:net')
  const socket = connect(plugin.line.split('|')[3]!)
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.destroy()
  await new Promise((resolve) => socket.once('close', resolve))
  await using _ = { [Symbol.asyncDispose]: () => plugin.stop() }
  const first = await Promise.race([plugin.ended.then(() => 'ended'), new Promise((resolve) => setImmediate(resolve))])
  expect(first).toBeUndefined()
})

test('with a certificate of the host, both sides must show theirs', async () => {
  // The host's half is the same code with the roles turned.
  const hostSide = await autoMtls(encodePem('CERTIFICATE', Uint8Array.of(0x30, 0)), systemClock)
  const identity = hostSide.client.identity!()!
  const env = { PLUGIN_CLIENT_CERT: encodePem('CERTIFICATE', hostSide.certificate) }
  const certificateOf = (line: string) => new Uint8Array(Buffer.from(line.trim().split('|')[5]!, 'base64'))
  {
    await using host = await hostPlugin(prefixed(), {
      env,
      tls: (line) => ({
        identity: () => identity,
        verifyServer(chain) {
          expect(Buffer.from(chain[0]!)).toEqual(Buffer.from(certificateOf(line)))
        },
      }),
    })
    await host.configure('prefix = "a"')
    expect(await host.call(attest, { pid: 7 })).toEqual({ selectorValues: ['a:7'] })
  }
  const stranger = await autoMtls(env.PLUGIN_CLIENT_CERT, systemClock)
  for (const other of [stranger.client.identity!(), undefined]) {
    const refused = hostPlugin(prefixed(), { env, tls: () => ({ identity: () => other, verifyServer() {} }) })
    await expect(refused).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  }
})

test('under mutual TLS a plugin calls its host, and nobody who took its place', async () => {
  const hostSide = await autoMtls(encodePem('CERTIFICATE', Uint8Array.of(0x30, 0)), systemClock)
  const env = { PLUGIN_CLIENT_CERT: encodePem('CERTIFICATE', hostSide.certificate) }
  const stranger = await autoMtls(env.PLUGIN_CLIENT_CERT, systemClock)
  const info = '/spire.hostservice.server.agentstore.v1.AgentStore/GetAgentInfo'
  const ask = { path: '/spire.plugin.server.notifier.v1.Notifier/Notify', request: Nothing, response: Nothing }
  const asked = async (side: typeof hostSide) => {
    const { certificates, privateKey } = side.client.identity!()!
    await using host = await hostPlugin(
      {
        kind: 'server/Notifier',
        make: (_, { getAgentInfo }) => ({
          async notify() {
            throw new StatusError('ABORTED', `found ${(await getAgentInfo('a')).info?.agentId}`)
          },
        }),
      },
      {
        env,
        tls: () => ({ identity: () => hostSide.client.identity!(), verifyServer() {} }),
        services: [
          unary({
            path: info,
            request: GetAgentInfoRequest,
            response: GetAgentInfoResponse,
            handle: async (_, { agentId }) => ({ info: { agentId } }),
          }),
        ],
        door(serve) {
          const cert = encodePem('CERTIFICATE', certificates[0]!)
          const door = createServer({ cert, key: encodePem('PRIVATE KEY', privateKey), ALPNProtocols: ['h2'] }, serve)
          return (socket) => door.emit('connection', socket)
        },
      },
    )
    return await host.call(ask, {}).catch((error) => error)
  }
  expect(await asked(hostSide)).toMatchObject({ code: 'ABORTED', message: 'found a' })
  expect(await asked(stranger)).toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining("the certificate is not the host's"),
  })
})
