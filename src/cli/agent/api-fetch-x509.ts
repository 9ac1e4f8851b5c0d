import type { Certificate } from '../../core/certificate.ts'
import { encodePem } from '../../core/pem.ts'
import type { CommandContext } from '../command.ts'
import { joinPath, writePrivate, writePublic } from '../files.ts'
import { boolean, text } from '../flags.ts'
import { messagesJson, outputFlag } from '../output.ts'
import { workload } from '../workload-methods.ts'
import { firstOf, workloadCommand } from './workload-command.ts'
import { readX509Response, type X509Content, x509Text } from './x509-response.ts'

/** `api fetch x509`: the SVIDs of the calling process, verified, listed and, if asked for, written to files. */
export const command = workloadCommand({
  name: 'fetch x509',
  flags: {
    silent: boolean('Suppress stdout'),
    write: text('Write SVID data to the specified path (optional; only available for pretty output format)'),
    output: outputFlag(),
  },
  async run(flags, call) {
    const started = performance.now()
    const response = await firstOf(call.api.stream(workload.fetchX509Svid, {}, call.options))
    const took = performance.now() - started
    if (flags.output.format === 'json') {
      call.stdout(messagesJson(response))
      return
    }
    const content = await readX509Response(response, call.now())
    if (!flags.silent) call.stdout(x509Text(content, took, { hints: true, federatedLabel: (id) => id }))
    if (flags.write !== '') writeFiles(content, flags.write, call)
  },
})

function writeFiles({ svids, federated }: X509Content, folder: string, { stdout }: CommandContext): void {
  const at = (name: string): string => joinPath(folder, name)
  for (const [i, { chain, privateKey, roots }] of svids.entries()) {
    const svidPath = at(`svid.${i}.pem`)
    stdout(`Writing SVID #${i} to file ${svidPath}.\n`)
    writePublic(svidPath, certificatesPem(chain))
    const keyPath = at(`svid.${i}.key`)
    stdout(`Writing key #${i} to file ${keyPath}.\n`)
    writePrivate(keyPath, encodePem('PRIVATE KEY', privateKey))
    const bundlePath = at(`bundle.${i}.pem`)
    stdout(`Writing bundle #${i} to file ${bundlePath}.\n`)
    writePublic(bundlePath, certificatesPem(roots))
    for (const [j, [id, certificates]] of federated.entries()) {
      const path = at(`federated_bundle.${i}.${j}.pem`)
      stdout(`Writing federated bundle #${j} for trust domain ${id} to file ${path}.\n`)
      writePublic(path, certificatesPem(certificates))
    }
  }
}

function certificatesPem(certificates: readonly Certificate[]): string {
  return certificates.map(({ der }) => encodePem('CERTIFICATE', der)).join('')
}
