import { randomBytes } from 'node:crypto'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { HttpOptions } from '../../config/server.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import type { Log } from '../../core/log.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import type { BoundService } from '../../rpc/service.ts'
import { isOnce } from '../../server/once.ts'
import type { OwnBundle } from '../../server/own-bundle.ts'
import { connectHandler } from '../../transport/fetch.ts'
import { type HttpIdentity, verifyRequest } from '../../transport/http-signature.ts'
import { memoryUses } from '../../transport/memory-uses.ts'
import { publicDocuments } from '../../transport/public-documents.ts'
import { StateSeal } from '../../transport/sealed-state.ts'
import type { VerifiedPeer } from '../../transport/tls.ts'
import { CommandError } from '../failure.ts'

export interface HttpPlane {
  readonly service: BoundService
  readonly bundle: OwnBundle
  readonly verifyPeer: (chain: readonly Uint8Array[]) => Promise<VerifiedPeer>
  /** The server's own SVID, which signs answers. */
  readonly identity: () => HttpIdentity | undefined
  readonly verify: VerifySignature
  readonly clock: Clock
  readonly log: Log
}

const REFRESH_HINT_SECONDS = 300

/** Serves the API with signed requests, and the public documents, over HTTP. @returns stops it */
export async function serveHttp(options: HttpOptions, plane: HttpPlane): Promise<() => Promise<void>> {
  const { verify, clock, log } = plane
  const uses = memoryUses()
  const documents = publicDocuments({
    bundle: () => plane.bundle.get(),
    refreshHintSeconds: REFRESH_HINT_SECONDS,
    issuer: options.issuer,
  })
  const call = connectHandler({
    service: plane.service,
    identity: plane.identity,
    seal: new StateSeal(randomBytes(32), clock, uses),
    uses,
    isOnce,
    clock,
    log,
    async authenticate(message, address) {
      let peer: VerifiedPeer | undefined
      await verifyRequest(message, {
        audiences: options.audiences,
        now: epochSeconds(clock),
        verify,
        verifyChain: async (chain) => {
          peer = await plane.verifyPeer(chain)
        },
      })
      return { peer: { via: 'x509', address, ...peer! } }
    },
  })
  const server = createAdaptorServer({
    async fetch(request, { incoming }) {
      const address = incoming.socket.remoteAddress ?? ''
      return (await call(request, address)) ?? documents.fetch(request)
    },
  }) as Server
  server.requestTimeout = 30_000
  server.headersTimeout = 10_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.bindPort, options.bindAddress, resolve)
  }).catch((error) => {
    throw new CommandError(`failed to listen on ${options.bindAddress}:${options.bindPort}: ${errorMessage(error)}`)
  })
  const { address, port } = server.address() as AddressInfo
  log.info('Starting Server APIs', { address: `${address}:${port}`, network: 'http' })
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }
}
