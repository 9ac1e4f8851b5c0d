import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import type { AgentOptions, BootstrapSource } from '../../config/agent.ts'
import { parseBundleDocument } from '../../core/bundle-document.ts'
import { parseCertificate, parseCertificates } from '../../core/certificate.ts'
import { errorMessage } from '../../core/error.ts'
import { certificatesFromPem } from '../../core/pem.ts'
import { trustDomainId } from '../../core/spiffe-id.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { connect } from '../../transport/grpc-client.ts'
import { WORKLOAD_HEADER, workload } from '../workload-methods.ts'

/** What has to be known of whoever bootstraps. */
export type BootstrapOptions = Pick<AgentOptions, 'bootstrap' | 'trustDomain' | 'serverAddress' | 'serverPort'>

const MAX_BUNDLE_BYTES = 4 * 1024 * 1024
const TIMEOUT_MS = 60_000

/**
 * Fetches the first trust bundle from where the configuration says; asked anew at each try.
 * @returns DER roots
 * @throws Error with SPIRE's texts
 * @see agent.md 2.1
 */
export async function bootstrapRoots(options: BootstrapOptions): Promise<readonly Uint8Array[]> {
  const { bootstrap, trustDomain } = options
  switch (bootstrap.kind) {
    case 'insecure':
      throw new Error('insecure bootstrap has no trust bundle')
    case 'workload_api':
      return rootsFromWorkloadApi(bootstrap.address, trustDomain)
    case 'file':
      try {
        return parseRoots(await readFile(bootstrap.path, 'utf8'), bootstrap.format, trustDomain)
      } catch (error) {
        throw new Error(`could not parse trust bundle: ${errorMessage(error)}`, { cause: error })
      }
    case 'url':
      return parseRoots(await download(bootstrap, options), bootstrap.format, trustDomain)
  }
}

function parseRoots(text: string, format: 'pem' | 'spiffe', trustDomain: TrustDomain): readonly Uint8Array[] {
  const roots = format === 'pem' ? certificatesFromPem(text) : spiffeRoots(text, trustDomain)
  for (const der of roots) parseCertificate(der)
  if (roots.length === 0) throw new Error('no certificates found in trust bundle')
  return roots
}

function spiffeRoots(text: string, trustDomain: TrustDomain): readonly Uint8Array[] {
  try {
    return parseBundleDocument(trustDomain, text).x509Authorities.map((root) => root.der)
  } catch (error) {
    throw new Error(`unable to parse SPIFFE trust bundle: ${errorMessage(error)}`, { cause: error })
  }
}

async function download(source: Extract<BootstrapSource, { kind: 'url' }>, options: BootstrapOptions): Promise<string> {
  try {
    if (source.unixSocket !== undefined) return await downloadOverSocket(source.url, source.unixSocket, options)
    const response = await fetch(source.url, { signal: AbortSignal.timeout(TIMEOUT_MS) })
    if (response.status !== 200) {
      throw new Error(`error downloading trust bundle: ${response.status} ${response.statusText}`)
    }
    const text = await response.text()
    if (text.length > MAX_BUNDLE_BYTES) throw new Error('the trust bundle is larger than 4 MiB')
    return text
  } catch (error) {
    throw new Error(`unable to fetch trust bundle URL ${source.url}: ${errorMessage(error)}`, { cause: error })
  }
}

function downloadOverSocket(address: string, socketPath: string, options: BootstrapOptions): Promise<string> {
  const url = new URL(address)
  url.searchParams.set('spire-attest-mode', 'bootstrap')
  url.searchParams.set('spire-server-address', options.serverAddress)
  url.searchParams.set('spire-server-port', String(options.serverPort))
  url.searchParams.set('spiffe-trust-domain', options.trustDomain)
  url.searchParams.sort()
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, path: `${url.pathname}${url.search}`, headers: { host: url.host }, timeout: TIMEOUT_MS },
      (response) => {
        if (response.statusCode !== 200) {
          response.resume()
          reject(new Error(`error downloading trust bundle: ${response.statusCode} ${response.statusMessage ?? ''}`))
          return
        }
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > MAX_BUNDLE_BYTES) call.destroy(new Error('the trust bundle is larger than 4 MiB'))
          else chunks.push(chunk)
        })
        response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
        response.on('error', reject)
      },
    )
    call.on('timeout', () => call.destroy(new Error('timed out')))
    call.on('error', reject)
    call.end()
  })
}

async function rootsFromWorkloadApi(address: string, trustDomain: TrustDomain): Promise<readonly Uint8Array[]> {
  const channel = await connect({
    target: address.startsWith('tcp:') ? `dns:///${address.replace(/^tcp:\/\//, '')}` : address,
  })
  try {
    const call = { metadata: WORKLOAD_HEADER, signal: AbortSignal.timeout(TIMEOUT_MS) }
    for await (const { bundles } of channel.serverStream(workload.fetchX509Bundles, {}, call)) {
      const id = trustDomainId(trustDomain)
      const roots = Object.hasOwn(bundles, id) ? bundles[id] : undefined
      if (!roots) {
        throw new Error(
          `SPIFFE Workload API ${address} did not provide a trust bundle for trust domain "${trustDomain}"`,
        )
      }
      return parseCertificates(roots).map(({ der }) => der)
    }
    throw new Error('the stream ended')
  } catch (error) {
    throw new Error(`unable to fetch trust bundle from SPIFFE Workload API ${address}: ${errorMessage(error)}`, {
      cause: error,
    })
  } finally {
    channel.close()
  }
}
