import { serverCommand } from '../api-command.ts'
import { text } from '../flags.ts'
import { bundles } from './bundle-methods.ts'
import { bundleFormat, bundleText } from './bundle-text.ts'

/** `bundle list`: the bundles of other trust domains, or of one of them without its banner. */
export const command = serverCommand({
  name: 'bundle list',
  flags: {
    id: text('SPIFFE ID of the trust domain'),
    format: text(
      'The format to list federated bundles (only pretty output format supports this flag). Either "pem" or "spiffe".',
      'pem',
    ),
  },
  async run(flags, { api, json, print, stdout }) {
    if (flags.id !== '') {
      const bundle = await api.call(bundles.getFederated, { trustDomain: flags.id, outputMask: undefined })
      const pretty = json ? '' : await bundleText(bundle, bundleFormat(flags.format), false)
      print(bundle, () => stdout(pretty))
      return
    }
    const response = await api.call(bundles.listFederated, { outputMask: undefined, pageSize: 0, pageToken: '' })
    const texts: string[] = []
    if (!json) for (const one of response.bundles) texts.push(await bundleText(one, bundleFormat(flags.format), true))
    print(response, () => stdout(texts.join('\n')))
  },
})
